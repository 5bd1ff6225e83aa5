"""Where files go: paths from the home folder and from anywhere, links, permissions, no home."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from streamlit.testing.v1 import AppTest

from keras_lm.data import texts
from keras_lm.runs.process import claim
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.config import ConfigError, DataConfig
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage import cache
from keras_lm.storage.files import write_atomically
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import (
    CACHE_VARIABLE,
    RUNS_VARIABLE,
    absolute,
    cache_folder,
    environment_for_children,
    path_from_environment,
)
from keras_lm.ui import services
from keras_lm.ui.reach import STYLED
from tests.page_server import page_server

PROJECT = Path(__file__).parents[1]
TINY = "--context-length 7 --d-model 6 --num-heads 1 --num-blocks 1 --ffn-dim 5 --batch-size 3"
SHORT = f"{TINY} --steps 2 --eval-every 0 --sample-every 0"
NOBODY = ["unshare", "--user", "--map-user=12345"]  # no entry, and permissions count
nobody_works = shutil.which("unshare") and not subprocess.run([*NOBODY, "true"]).returncode
as_nobody = pytest.mark.skipif(not nobody_works, reason="needs user namespaces")


def environment(**changes: str) -> dict[str, str]:
    paths = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": paths} | changes


def run(
    *words: object, before: tuple = (), cwd: Path | None = None, env: dict | None = None
) -> subprocess.CompletedProcess:
    command = [*before, sys.executable, "-m", "keras_lm", *map(str, words)]
    env = env or environment()
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


@as_nobody
def test_a_run_is_resumed_from_another_folder_and_without_any_home_or_cache(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "my.txt").write_text("She said that it was a fine day for a walk. " * 30)
    bare = {"PYTHONPATH": environment()["PYTHONPATH"], "PATH": os.environ["PATH"]}
    words = ["train", "--run-dir", "r", "--data", "my.txt", *SHORT.split()]
    made = run(*words, before=NOBODY, env=bare, cwd=first)
    assert made.returncode == 0, made.stderr
    folder = RunFolder(first / "r")
    assert folder.read_config()["data"]["data"] == str(first / "my.txt")
    folder.write_status(state="interrupted")
    for words in (["resume", "--run-dir", "../first/r"], ["check", "../first/r/model.keras"]):
        process = run(*words, before=NOBODY, env=bare, cwd=second)
        assert process.returncode == 0, process.stderr
        assert "Traceback" not in process.stderr
    assert os.listdir(second) == [] and sorted(os.listdir(first)) == ["my.txt", "r"]


def test_paths_are_absolute_and_an_empty_variable_counts_as_unset(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for value, path in (("~/x", tmp_path / "x"), ("x", tmp_path / "x"), ("/x", Path("/x"))):
        assert absolute(value) == path
        for name in (CACHE_VARIABLE, RUNS_VARIABLE):
            monkeypatch.setenv(name, value)
            assert path_from_environment(name) == path
            assert environment_for_children()[name] == str(path)
    monkeypatch.setenv("EMPTY", "")
    assert path_from_environment("EMPTY") is path_from_environment("UNSET") is None
    monkeypatch.setenv(CACHE_VARIABLE, "")
    assert environment_for_children()[CACHE_VARIABLE] == ""
    (tmp_path / "alice").write_text("a file named like a text")
    for data, expected in (
        ("alice", "alice"),
        ("./alice", str(tmp_path / "alice")),
        ("~/alice", str(tmp_path / "alice")),
        ("no-such-file", "no-such-file"),
    ):
        assert texts.with_absolute_path(DataConfig(data)).data == expected


def test_of_two_runs_for_one_folder_the_second_writes_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    assert claim(folder)  # by this process, which is still reading its text
    process = run("train", "--run-dir", folder.path, "--data", "alice", *TINY.split())
    assert process.returncode == 2 and "still active" in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert os.listdir(folder.path) == [folder.lock_file.name]


def test_a_cache_without_a_place_is_done_without(monkeypatch):
    def refuse(_):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setattr("pooch.os_cache", refuse)
    cache.keep_compiled_programs()
    cache.seal_programs()
    with pytest.raises(OSError, match=f"name a folder in {CACHE_VARIABLE}"):
        cache_folder()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_honour_the_umask_and_keep_the_mode_they_had(tmp_path):
    for umask, expected in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            write_atomically(tmp_path / f"{umask}", b"new")
        finally:
            os.umask(before)
        assert mode(tmp_path / f"{umask}") == expected
    private = tmp_path / "private"
    private.write_bytes(b"old")
    private.chmod(0o600)
    write_atomically(private, b"new")
    assert mode(private) == 0o600


@as_nobody
def test_what_cannot_be_read_is_listed_as_that(tmp_path):
    for run_id, private in (
        ("20260101-000000-aaaaaa", "."),
        ("20260102-000000-bbbbbb", "config.json"),
        ("20260103-000000-cccccc", "status.json"),
    ):
        folder = RunFolder(tmp_path / run_id)
        folder.create()
        folder.write_config(QUICK_START.to_dict())
        folder.write_status(state="finished")
        folder.lock_file.touch()
        (folder.path / private).chmod(0)
    code = """
import json, sys
from pathlib import Path
from keras_lm.runs.process import claim
from keras_lm.runs.supervisor import Supervisor
from keras_lm.presentation.formatting import label_runs
supervisor = Supervisor(Path(sys.argv[1]))
print(json.dumps([summary.damage for summary in supervisor.summaries()]))
label_runs(supervisor.summaries())
try:
    supervisor.delete("20260101-000000-aaaaaa")
except ValueError as error:
    print(error)
"""
    command = [*NOBODY, sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    damages, refused = process.stdout.splitlines()
    status, config, folder = json.loads(damages)
    assert status == "status.json cannot be read: Permission denied."
    assert "config.json cannot be read: Permission denied." in config
    assert folder.endswith("cannot be read: permission denied.") and refused == folder


@pytest.fixture
def ended(tmp_path, sound):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.write_status(state="finished")
    folder.model_file.write_bytes(sound.read_bytes())
    return folder


def test_an_export_over_a_link_writes_what_it_links_to(tmp_path, ended, sound):
    target, link = tmp_path / "target.keras", tmp_path / "link.keras"
    link.symlink_to(target.name)
    for _ in range(2):  # first to nowhere, then to a model
        assert run("export", "--run-dir", ended.path, "--out", link).returncode == 0
        assert os.readlink(link) == target.name and target.read_bytes() == sound.read_bytes()


def test_an_export_to_anything_but_a_file_is_refused_in_words(tmp_path, ended):
    folder, pipe, loop = (tmp_path / f"{name}.keras" for name in ("folder", "pipe", "loop"))
    folder.mkdir()
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    before = sorted(os.listdir(tmp_path))
    for out in (folder, pipe, "/dev/stdout", loop, tmp_path / "missing" / "x.keras"):
        process = run("export", "--run-dir", ended.path, "--out", out)
        assert process.returncode == 2 and len(process.stderr.splitlines()) == 1, process.stderr
    assert sorted(os.listdir(tmp_path)) == before and not os.listdir(folder)


@pytest.fixture
def refused_disk(tmp_path, monkeypatch):
    """A folder of runs in which nothing can be written: a file stands there."""
    (tmp_path / "runs").write_text("in the way")
    return tmp_path / "runs"


def test_whatever_the_disk_refuses_is_one_kind_of_sentence(refused_disk):
    supervisor = Supervisor(refused_disk)
    for attempt in (
        lambda: supervisor.start(QUICK_START),
        lambda: supervisor.keep_upload(b"text", ".txt"),
        lambda: supervisor.request("20260101-000000-aaaaaa", "stop"),
    ):
        with pytest.raises(
            ConfigError, match="^The disk refused at .*: Not a directory. Make room"
        ):
            attempt()


def test_a_pasted_text_that_cannot_be_kept_is_told_on_the_page(refused_disk, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(refused_disk))
    services.st.cache_resource.clear()
    page = AppTest.from_file(PROJECT / "streamlit_app.py", default_timeout=60)
    page.session_state[STYLED] = True
    page.run()
    page.selectbox(key="data.data").set_value("Paste a text").run()
    page.text_area(key="text.pasted").set_value("She said that it was a fine day. " * 40).run()
    services.st.cache_resource.clear()
    assert not page.exception
    assert any("The disk refused" in error.value.replace("\\", "") for error in page.error)


def test_the_page_listens_on_this_machine_only(tmp_path):
    with page_server(tmp_path) as (port, process):
        sockets = [c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert sockets and {address.ip for address in sockets} <= {"127.0.0.1", "::1"}
    assert {address.port for address in sockets} == {port}
