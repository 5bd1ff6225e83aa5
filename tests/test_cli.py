"""The command line, in processes of its own as a person uses it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from keras_lm.settings.config import DataConfig, ModelConfig, TrainingConfig

TINY = (
    "--tokenizer char --context-length 7 --d-model 6 --num-heads 1 --num-blocks 1 --ffn-dim 5 "
    "--batch-size 3"
)

# The command line on a disk that takes what is written to it, and then has no room to keep it.
FULL_DISK = """
import errno, os, sys
def refuse(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
os.fsync = refuse
from keras_lm.cli import main
sys.exit(main())
"""


def run(*words: object, given: str = "", **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "keras_lm", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        input=given,
        env=os.environ | environment,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on a small text, with its process."""
    folder = tmp_path_factory.mktemp("main")
    text = folder / "a text.txt"
    text.write_text("".join(f"{n} green bottles on the wall, " for n in range(99, 0, -1)))
    every = "--log-every 5 --eval-every 10 --sample-every 11 --checkpoint-every 0".split()
    words = ["--data", text, "--steps", 23, "--sample-tokens", 4, "--run-dir", folder / "run"]
    return folder / "run", run("train", *words, *TINY.split(), *every)


def test_train_writes_its_folder_and_progress(trained):
    folder, process = trained
    assert process.returncode == 0, process.stderr
    *lines, end, course, findings = process.stderr.splitlines()
    assert lines[0].startswith("step 5/23  loss ") and end.startswith("finished: ")
    assert course.startswith("Step 23: validation ") and " characters; it began with" in course
    assert findings  # 23 steps are few
    assert process.stdout == ""
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    config = json.loads((folder / "config.json").read_text())
    assert config["schema"] == 1 and config["model"]["vocab_size"] > 10


def test_events_come_every_log_every_steps_and_at_the_last(trained):
    events = [json.loads(line) for line in (trained[0] / "events.jsonl").open()]
    metrics = [event for event in events if event["kind"] == "metrics"]
    assert [event["step"] for event in metrics] == [5, 10, 15, 20, 23]
    assert [event["step"] for event in metrics if "val_loss" in event] == [10, 20, 23]
    assert [e["step"] for e in events if e["kind"] == "sample"] == [5, 11, 22, 23]
    assert all(event["tokens"] == event["step"] * 3 * 7 for event in metrics)
    for name in ("seconds", "train_seconds"):
        values = [event[name] for event in metrics]
        assert values == sorted(values) and values[0] > 0
    assert metrics[-1]["train_seconds"] < metrics[-1]["seconds"]


def test_generate_prints_the_continuation_only_and_the_same_for_a_seed(trained):
    words = ["generate", "--model", trained[0] / "model.keras", "--max-new-tokens", 9]
    first = run(*words, "--prompt", "on the \u2603", "--seed", 3)
    assert first.returncode == 0 and len(first.stdout) == 9 + 1
    assert "\u2603" in first.stderr  # the message names the dropped character
    assert run(*words, "--prompt", "on the ", "--seed", 3).stdout == first.stdout


def test_what_an_output_cannot_show_is_replaced_or_escaped(trained):
    words = ["generate", "--model", trained[0] / "model.keras", "--max-new-tokens", 3]
    latin = run(*words, "--prompt", "\u2603\r\x1b[31m on", PYTHONIOENCODING="latin-1")
    assert latin.returncode == 0 and len(latin.stdout) == 3 + 1
    ignored = "Ignored, since the training text does not contain them: ? \\r \\x1b [ m\n"
    assert latin.stderr == ignored
    for command in (["check"], ["train", "--run-dir", "x", "--data"]):
        process = run(*command, "no\u2603\x1bfile", LC_ALL="C", PYTHONIOENCODING="ascii")
        assert process.returncode == 2 and len(process.stderr.splitlines()) == 1
        assert "\x1b" not in process.stderr and "x1bfile" in process.stderr


def test_a_text_from_standard_input_stays_with_its_run(tmp_path):
    folder, text = tmp_path / "run", "piped text, " * 99
    words = ["train", "--data", "-", "--steps", 1, "--sample-every", 0, "--run-dir", folder]
    bad = run(*words, *TINY.split())
    assert bad.returncode == 2 and not folder.exists()
    assert bad.stderr == "Standard input is empty. Choose one with some text.\n"
    assert run(*words, *TINY.split(), given=text).returncode == 0
    data = json.loads((folder / "config.json").read_text())["data"]
    assert (data["data"], data["title"]) == (str(folder / "text.txt"), "standard input")
    assert (folder / "text.txt").read_text() == text


def test_several_texts_get_absolute_paths(tmp_path, monkeypatch):
    from keras_lm.cli import build_parser, new_config

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    words = ["train", "--run-dir", "x", "--data", "a.txt", "alice", "b/*.md", "--steps", "3"]
    data = new_config(build_parser().parse_args(words)).data
    assert data.data == f"{tmp_path}/a.txt\nalice\n{tmp_path}/b/*.md"
    assert data.label == "a and 2 more"


@pytest.mark.parametrize(
    ("flags", "title"),
    [("", "Green bottles"), ("--data alice", ""), ("--data alice --title Mine", "Mine")],
)
def test_another_text_than_that_of_the_run_has_its_own_title(trained, tmp_path, flags, title):
    from keras_lm.cli import build_parser, new_config

    config = json.loads((trained[0] / "config.json").read_text())
    config["data"]["title"] = "Green bottles"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "status.json").write_text('{"state": "finished"}')
    words = ["train", "--run-dir", "x", "--like", str(tmp_path), *flags.split()]
    assert new_config(build_parser().parse_args(words)).data.title == title


def test_export_and_check(trained, tmp_path):
    out = tmp_path / "copy.keras"
    assert run("export", "--run-dir", trained[0], "--out", out).returncode == 0
    assert out.read_bytes() == (trained[0] / "model.keras").read_bytes()
    good = run("check", out)
    assert good.returncode == 0 and "sound" in good.stdout
    out.write_bytes(out.read_bytes()[:-200])
    bad = run("check", out)
    assert bad.returncode == 1 and len(bad.stdout.splitlines()) == 1 and bad.stderr == ""


def test_an_export_that_fails_leaves_the_older_file_and_nothing_else(trained, sound, tmp_path):
    run_folder, out = tmp_path / "run", tmp_path / "copy.keras"
    shutil.copytree(trained[0], run_folder)
    older = (run_folder / "model.keras").read_bytes()
    out.write_bytes(older)
    (run_folder / "model.keras").write_bytes(sound.read_bytes())
    command = [sys.executable, "-c", FULL_DISK, "export", "--run-dir", run_folder, "--out", out]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 2 and len(failed.stderr.splitlines()) == 1
    assert "cannot be written: No space left on device." in failed.stderr
    assert sorted(os.listdir(tmp_path)) == ["copy.keras", "run"] and out.read_bytes() == older


def test_a_reader_who_has_enough_is_no_error(trained):
    words = f"-m keras_lm generate --model {trained[0] / 'model.keras'} --max-new-tokens 99999"
    command = f"set -o pipefail; {sys.executable} {words} --prompt on | head -c 3"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, len(ended.stdout), ended.stderr) == (0, 3, "")


def test_a_command_without_tensorflow_leaves_others_programs_alone(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_LM_CACHE", str(tmp_path))
    assert run("check", trained[0] / "model.keras").returncode == 0
    assert not any(tmp_path.iterdir())


BAD_INPUT = {
    "--data no-such-text": "no-such-text",
    "--d-model 30 --num-heads 4": "multiple of num_heads",
    "--d-model 10 --num-heads 2": "even head size",
    "--steps 0": "steps must be between 1",
    "--steps -3": "steps must be between 1",
    "--learning-rate nan": "a number",
    "--learning-rate 1e9": "learning_rate must be between",
    "--attention none": "Argument --attention",
    "--dropout x": "Argument --dropout",
    "--context-length 200000": "context_length must be between",
    "--d-model 8192 --num-blocks 128 --num-heads 64": "the machine has",
    "--run-dir /dev/null/run": "/dev/null/run cannot be used",
    "--data=": "must name a text, but got an empty name",
    "--data - alice": "--data - must stand alone",
    "--like nosuch": "--like must name a run's folder",
    "--like=": "Argument --like: expected a name, but got an empty one",
    "--no-such-flag 1": "unrecognized arguments|Unrecognized arguments",
    "--preset huge": "Argument --preset",
    "--cleaning classic --data alice --context-length 60000": "Use at least 610,000",
}


@pytest.mark.parametrize("flags", BAD_INPUT)
def test_bad_input_gets_one_line_and_exit_2_and_leaves_nothing(flags, tmp_path):
    process = run("train", "--run-dir", tmp_path / "run", *flags.split())
    assert process.returncode == 2, process.stderr
    assert len(process.stderr.splitlines()) == 1 and process.stdout == ""
    assert any(part in process.stderr for part in BAD_INPUT[flags].split("|")), process.stderr
    assert not (tmp_path / "run").exists()


def test_a_closed_standard_input_is_one_line(tmp_path):
    command = f"{sys.executable} -m keras_lm train --data - --run-dir {tmp_path / 'run'} <&-"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1
    assert "that is closed" in process.stderr and not (tmp_path / "run").exists()


def test_a_closed_standard_error_ends_nothing(tmp_path):
    command = f"{sys.executable} -m keras_lm train --data alice --run-dir {tmp_path / 'run'} "
    command += "--steps 1 --d-model 8 --num-heads 1 --num-blocks 1 --ffn-dim 8 --context-length 8 "
    command += "--batch-size 2 --tokenizer char --sample-every 0 --eval-every 0 2>&-"
    assert subprocess.run(["bash", "-c", command]).returncode == 0
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "finished"


def test_a_report_that_cannot_be_written_is_one_line(trained, tmp_path):
    process = run("report", "--run-dir", trained[0], "--out", tmp_path / "none" / "x.html")
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1
    assert "x.html cannot be written: No such file" in process.stderr


def test_a_folder_with_a_lock_of_others_is_left_alone(tmp_path):
    (tmp_path / "process.lock").write_text("pid 5")
    process = run("train", "--run-dir", tmp_path, "--data", "alice")
    assert process.returncode == 2 and "holds 'process.lock'" in process.stderr
    assert (tmp_path / "process.lock").read_text() == "pid 5"


def test_a_folder_that_holds_a_run_is_not_overwritten(trained):
    before = (trained[0] / "events.jsonl").read_bytes()
    for command in (["train", "--steps", 5], ["train"], ["resume"]):
        process = run(*command, "--run-dir", trained[0])
        assert process.returncode == 2 and len(process.stderr.splitlines()) == 1
    assert (trained[0] / "events.jsonl").read_bytes() == before


@pytest.mark.parametrize("command", ["generate --model", "check", "resume --run-dir"])
def test_a_missing_file_is_one_line(command, tmp_path):
    process = run(*command.split(), tmp_path / "none.keras")
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1


def test_every_config_field_is_a_flag():
    from keras_lm.cli import build_parser

    words = ["train", "--run-dir", "x"]
    expected = {}
    for config in (ModelConfig, DataConfig, TrainingConfig):
        for name, field in ((spec.name, spec) for spec in config.specs()):
            if name == "vocab_size":
                continue
            flag, value = "--" + name.replace("_", "-"), field.default
            is_bool = isinstance(value, bool)
            words += [flag if value else f"--no-{flag[2:]}"] if is_bool else [flag, str(value)]
            expected[name] = value
    values = vars(build_parser().parse_args(words))
    assert {name: values[name] for name in expected} == expected
