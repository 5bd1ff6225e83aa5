"""The cache of compiled programs: sound ones are kept, whatever else happened to them goes."""

import os
import subprocess
import sys

import pytest

from keras_lm.storage import cache
from keras_lm.storage.files import PARTIAL, sha256
from keras_lm.system.paths import CACHE_VARIABLE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("TF_XLA_FLAGS", "--already=here")
    monkeypatch.setattr(cache.atexit, "register", lambda *_: None)
    cache.keep_compiled_programs()
    (folder,) = tmp_path.iterdir()
    return folder


def programs(folder):
    return sorted(path.name for path in folder.glob("*.pb"))


def test_tensorflow_is_told_of_the_folder_and_keeps_its_other_flags(folder):
    flags = os.environ["TF_XLA_FLAGS"].split()
    assert flags[-1] == "--already=here"
    assert f'--tf_xla_persistent_cache_directory="{folder}"' in flags
    assert folder.stat().st_mode & 0o077 == 0  # what is run from there is nobody else's to write


def test_only_programs_with_their_hash_are_kept(folder):
    for name in ("sound", "torn", "flipped"):
        (folder / f"{name}.pb").write_bytes(name.encode())
    cache.seal_programs()
    (folder / "torn.pb").write_bytes(b"tor")
    (folder / "flipped.pb").write_bytes(b"glipped")
    (folder / "killed.pb").write_bytes(b"its process ended before it was sealed")
    cache.keep_compiled_programs()
    assert programs(folder) == ["sound.pb"]
    assert [path.name for path in folder.glob("*.sha256")] == ["sound.sha256"]


def test_a_program_is_kept_in_a_folder_of_any_name_and_sealed_at_the_end(tmp_path):
    code = """
import os
from keras_lm.storage.cache import keep_compiled_programs
keep_compiled_programs()
import tensorflow as tf
tf.function(lambda x: 3 * x + 1, jit_compile=True)(tf.ones(5))
"""
    root = tmp_path / "a 'quoted' \"name\" \\ of mine"
    environment = os.environ | {CACHE_VARIABLE: str(root)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    (folder,) = root.iterdir()
    (program,) = folder.glob("*.pb")
    assert program.with_suffix(".sha256").read_text() == sha256(program)
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_the_oldest_programs_make_room(folder, monkeypatch):
    for age, name in enumerate("cba"):
        (folder / f"{name}.pb").write_bytes(b"12345")
        os.utime(folder / f"{name}.pb", (1000 - age, 1000 - age))
    cache.seal_programs()
    for most, left in ((15, "abc"), (14, "bc"), (10, "bc"), (9, "c"), (4, "")):
        monkeypatch.setattr(cache, "MOST_BYTES", most)
        cache.keep_compiled_programs()
        assert programs(folder) == [f"{name}.pb" for name in left]


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    cache.keep_compiled_programs()
    assert "TF_XLA_FLAGS" not in os.environ


@pytest.mark.parametrize("harm", ["byte", "folder", "pipe", "large", "missing"])
def test_a_damaged_hash_drops_its_program_and_nothing_else(folder, harm):
    for name in ("sound", "harmed"):
        (folder / f"{name}.pb").write_bytes(name.encode())
    cache.seal_programs()
    seal = folder / "harmed.sha256"
    if harm == "byte":
        seal.write_bytes(b"\xff" + seal.read_bytes()[1:])
    elif harm == "large":
        os.truncate(seal, 2**30)
    else:
        seal.unlink()
    if harm == "folder":
        seal.mkdir()
    elif harm == "pipe":
        os.mkfifo(seal)
    cache.keep_compiled_programs()
    assert programs(folder) == ["sound.pb"]


def test_a_program_that_cannot_be_removed_is_not_given_to_tensorflow(folder, monkeypatch):
    monkeypatch.delenv("TF_XLA_FLAGS")
    (folder / "program.pb").mkdir()
    cache.keep_compiled_programs()
    assert "TF_XLA_FLAGS" not in os.environ


def test_what_killed_processes_were_writing_goes_and_the_rest_stays(folder):
    for name in (f"{PARTIAL}seal", "mine"):
        (folder / name).write_bytes(b"torn")
        os.utime(folder / name, (1000, 1000))
    (folder / f"{PARTIAL}new").write_bytes(b"of a living process")
    cache.keep_compiled_programs()
    assert sorted(os.listdir(folder)) == [f"{PARTIAL}new", "mine"]
