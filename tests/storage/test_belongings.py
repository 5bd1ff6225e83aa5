"""No command and no button removes or changes what this program did not make."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.config import ConfigError
from keras_lm.settings.formats import FORMATS
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.files import PARTIAL
from keras_lm.storage.run_folder import CHECKPOINT_FILES, RunFolder
from keras_lm.training import checkpoint

NAMED_LIKE_OURS = "20260101-000000-abcdef"
LONG_AGO = 1_000_000_000
TINY = "--context-length 7 --d-model 6 --num-heads 1 --num-blocks 1 --ffn-dim 5 --batch-size 3"


def repository(folder: Path) -> None:
    (folder / ".git" / "objects").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (folder / ".env").write_text("SECRET=1")


def other_checkpoints(folder: Path) -> None:
    for step in (500, 1000):
        (folder / "checkpoints" / f"step-{step}").mkdir(parents=True)
        (folder / "checkpoints" / f"step-{step}" / "model.safetensors").write_bytes(b"weights")
    (folder / "model.keras").write_bytes(b"another program's model")
    (folder / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')


def copied_config(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(QUICK_START.to_dict()))
    (folder / "events.jsonl").write_text('{"kind": "sale"}\n')
    (folder / "status.txt").write_text("mine")


def other_state(folder: Path) -> None:
    (folder / "config.json").write_text('{"debug": true}')
    (folder / "status.json").write_text('{"state": "training", "pid": 1, "pid_started": 0}')
    (folder / "tokenizer.json").write_text("{}")


def copied_config_beside_other_status(folder: Path) -> None:
    copied_config(folder)
    (folder / "status.json").write_text('{"users": 5}')
    (folder / "model.keras").write_bytes(b"another program's model")


def copied_config_beside_other_lock(folder: Path) -> None:
    copied_config(folder)
    (folder / "process.lock").write_text("pid 5")


def links(folder: Path) -> None:
    (folder / "model.keras").symlink_to(folder.parent / "elsewhere.keras")
    (folder / "checkpoints").symlink_to(folder.parent / "elsewhere")


def read_only(folder: Path) -> None:
    (folder / "events.jsonl").write_text("mine")
    (folder / "events.jsonl").chmod(0o400)


FOLDERS = (repository, other_checkpoints, copied_config, other_state, links, read_only)
FOLDERS += (copied_config_beside_other_status, copied_config_beside_other_lock)


def contents(root: Path) -> dict[str, str]:
    """Every file, folder and link below `root`, with what shows whether it was changed."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path)] = "folder"
    return found


@pytest.fixture(params=FOLDERS, ids=lambda fill: fill.__name__)
def belongings(request, tmp_path):
    """A folder named like a run's, full of something else, all of it old."""
    folder = tmp_path / NAMED_LIKE_OURS
    folder.mkdir()
    (tmp_path / "elsewhere" / "step-1").mkdir(parents=True)
    (tmp_path / "elsewhere.keras").write_bytes(b"mine")
    request.param(folder)
    for path in tmp_path.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    return folder


def run(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "keras_lm", *map(str, words)]
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_every_command_leaves_a_folder_of_other_things_as_it_was(belongings, sound, tmp_path):
    before = contents(tmp_path)
    commands = [
        ["train", "--run-dir", ".", "--data", "alice", *TINY.split()],
        ["resume", "--run-dir", "."],
        ["export", "--run-dir", ".", "--out", "out.keras"],
    ]
    for words in commands:
        process = run(*words, cwd=belongings)
        assert process.returncode == 2, (words, process.stderr)
        assert len(process.stderr.splitlines()) == 1 and "--run-dir" in process.stderr
        assert contents(tmp_path) == before, words


def test_the_page_neither_lists_nor_settles_nor_deletes_such_a_folder(belongings, tmp_path):
    before = contents(tmp_path)
    supervisor = Supervisor(tmp_path)
    assert supervisor.summaries() == []
    with pytest.raises(ConfigError, match="not made by this program"):
        supervisor.delete(NAMED_LIKE_OURS)
    assert contents(tmp_path) == before


def ended_run(root: Path) -> RunFolder:
    """A run of ours with two checkpoints, a model, and a torn write of each kind."""
    folder = RunFolder(root / NAMED_LIKE_OURS)
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.write_status(state="stopped")
    folder.append_event({"kind": "note", "step": 1, "message": "x"})
    folder.lock_file.touch()
    for file in (folder.log_file, folder.model_file, folder.tokenizer_file):
        file.write_bytes(b"ours")
    folder.request("stop")
    for step in (1, 2):
        checkpoint.save_checkpoint(folder.checkpoints, step, [], {})
    (folder.path / f"{PARTIAL}file").write_bytes(b"torn")
    (folder.checkpoints / f"{PARTIAL}folder").mkdir()
    return folder


def test_a_run_is_deleted_whole(tmp_path):
    folder = ended_run(tmp_path)
    Supervisor(tmp_path).delete(folder.run_id)
    assert os.listdir(tmp_path) == []


def test_a_run_is_deleted_and_what_others_put_beside_it_stays(tmp_path):
    folder = ended_run(tmp_path)
    (folder.path / "notes.md").write_text("mine")
    (folder.path / ".git").mkdir()
    (folder.checkpoints / "step-7").mkdir()
    (folder.checkpoints / "step-7" / "model.safetensors").write_bytes(b"mine")
    (folder.checkpoints / "step-00000001" / "mine").write_bytes(b"mine")
    (folder.checkpoints / "step-9").symlink_to(tmp_path)
    assert folder.other_names() == [".git", "notes.md"]
    Supervisor(tmp_path).delete(folder.run_id)
    left = {str(Path(name).relative_to(folder.path)) for name in contents(folder.path)}
    kept = {"notes.md", ".git", "checkpoints", "checkpoints/step-9"}
    kept |= {"checkpoints/step-7", "checkpoints/step-7/model.safetensors"}
    kept |= {"checkpoints/step-00000001", "checkpoints/step-00000001/mine"}
    kept |= {f"checkpoints/step-00000001/{name}" for name in CHECKPOINT_FILES}
    assert left == kept
    assert Supervisor(tmp_path).summaries() == []


def test_deleting_a_link_to_a_run_leaves_the_run(tmp_path):
    folder = ended_run(tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / folder.run_id).symlink_to(folder.path)
    before = contents(folder.path)
    Supervisor(tmp_path / "runs").delete(folder.run_id)
    assert os.listdir(tmp_path / "runs") == [] and contents(folder.path) == before


def test_leftovers_are_only_what_this_program_was_writing(tmp_path):
    folder = ended_run(tmp_path)
    others = [".env", ".config.json.abcdefgh", ".partial-mine"]
    for name in others:
        (folder.path / name).write_bytes(b"mine")
        (folder.checkpoints / name).mkdir()
    for path in tmp_path.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    folder.remove_leftovers(before=LONG_AGO + 1)
    for place in (folder.path, folder.checkpoints):
        left = [name for name in os.listdir(place) if name.startswith(".")]
        assert sorted(left) == sorted(others)


def test_old_checkpoints_go_and_those_of_others_stay(tmp_path):
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / "model.safetensors").write_bytes(b"mine")
    for step in range(2, 9):
        checkpoint.save_checkpoint(tmp_path, step, [], {})
    names = {f"step-{step:08d}" for step in (6, 7, 8)}
    assert set(os.listdir(tmp_path)) == names | {"step-1"}


def test_export_replaces_models_made_here_and_nothing_else(tmp_path, sound):
    folder = ended_run(tmp_path)
    folder.model_file.write_bytes(sound.read_bytes())
    for content in (b"another program's", b""):
        out = tmp_path / "out.keras"
        out.write_bytes(content)
        process = run("export", "--run-dir", folder.path, "--out", out)
        assert process.returncode == 2 and "something else" in process.stderr
        assert out.read_bytes() == content
    out.unlink()
    for _ in range(2):  # the second time over the first
        assert run("export", "--run-dir", folder.path, "--out", out).returncode == 0
        assert out.read_bytes() == sound.read_bytes()


def test_what_only_has_the_name_of_a_run_s_file_stays(tmp_path):
    supervisor = Supervisor(tmp_path)
    folder = ended_run(tmp_path)
    folder.text_file.write_text("a person's own")
    supervisor.delete(NAMED_LIKE_OURS)
    assert os.listdir(folder.path) == [folder.text_file.name]
    folder.text_file.unlink()
    ended_run(tmp_path)
    data = {"data": {"data": str(folder.text_file.absolute())}}
    folder.write_config(QUICK_START.to_dict() | data)
    folder.text_file.write_text("from standard input")
    supervisor.delete(NAMED_LIKE_OURS)
    assert not folder.path.exists()


def test_a_folder_whose_lock_is_not_ours_is_not_a_run(tmp_path):
    folder = RunFolder(tmp_path / NAMED_LIKE_OURS)
    folder.create()
    folder.lock_file.write_text("pid 5")
    folder.log_file.write_text("a log of others")
    with pytest.raises(ConfigError, match="was not made by this program"):
        Supervisor(tmp_path).delete(NAMED_LIKE_OURS)
    assert folder.lock_file.read_text() == "pid 5" and folder.log_file.exists()


def test_a_config_beside_an_empty_lock_is_not_trained_over_what_is_there(tmp_path):
    folder = RunFolder(tmp_path / NAMED_LIKE_OURS)
    folder.create()
    copied_config(folder.path)
    folder.lock_file.touch()
    before = contents(tmp_path)
    process = run("train", "--run-dir", folder.path)
    assert process.returncode == 2 and "already holds a run" in process.stderr
    assert contents(tmp_path) == before


def test_a_person_s_zip_beside_a_run_stays_and_exports_go(tmp_path):
    folder = ended_run(tmp_path)
    for format in FORMATS:
        folder.export_file(format).write_bytes(b"ours")
    own = folder.path / "export-backup.zip"
    own.write_bytes(b"mine")
    assert folder.other_names() == [own.name]
    Supervisor(tmp_path).delete(NAMED_LIKE_OURS)
    assert os.listdir(folder.path) == [own.name]


@pytest.mark.parametrize("name", ["out", "out.zip", "model.safetensors"])
def test_export_leaves_a_link_to_nothing_as_it_is(tmp_path, sound, name):
    folder = ended_run(tmp_path)
    folder.model_file.write_bytes(sound.read_bytes())
    (tmp_path / name).symlink_to("nowhere")
    before = contents(tmp_path)
    words = ["export", "--run-dir", folder.path, "--format", "safetensors"]
    process = run(*words, "--out", tmp_path / name)
    assert process.returncode == 2 and "new name" in process.stderr
    assert contents(tmp_path) == before
