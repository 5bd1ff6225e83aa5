"""The command `race`, without training anything, and the command `report`."""

import importlib.util
import json
import math
import sys

import pytest

from keras_lm import cli
from keras_lm.commands import race as command
from keras_lm.runs.race import Race
from keras_lm.runs.supervisor import Supervisor
from keras_lm.storage import run_folder

TINY = "--data alice --steps 3 --d-model 6 --num-heads 1 --context-length 7".split()
VARY = ["--vary", "norm=rmsnorm,layernorm"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A race's folder; every run that is started has finished at once, with a loss by its seed."""

    def launch(supervisor, folder, *_):
        config = folder.read_config()
        bits = 2.0 + config["training"]["seed"] / 10 + (config["model"]["norm"] == "layernorm")
        event = {"kind": "metrics", "step": 3, "tokens": 30, "seconds": 2.0, "train_seconds": 1.0}
        event |= {"loss": 1.0, "val_loss": bits * math.log(2), "val_bits_per_byte": bits}
        folder.append_event(event)
        folder.write_status(state=run_folder.FINISHED, step=3, steps=3, parameters=9, message="")

    monkeypatch.setattr(Supervisor, "_launch", launch)
    monkeypatch.setattr(command, "POLL_SECONDS", 0.0)
    return tmp_path / "race"


@pytest.fixture
def keras_lm(monkeypatch):
    """Runs a command in this process; returns its exit code."""

    def run(*words) -> int:
        monkeypatch.setattr(sys, "argv", ["keras-lm", *map(str, words)])
        return cli.main()

    return run


def test_a_race_prints_its_table_and_its_sentence(folder, keras_lm, capsys):
    assert keras_lm("race", "--race-dir", folder, *VARY, "--seeds", "1,2,3", *TINY) == 0
    printed = capsys.readouterr().out
    assert "norm=rmsnorm     3 2.200 ± 0.100" in printed
    assert "norm=rmsnorm is best: 1.000 bits per byte less than norm=layernorm" in printed
    result = json.loads((folder / "result.json").read_text())
    assert result["summary"] in printed
    runs = json.loads((folder / "race.json").read_text())["runs"]
    assert {(run["entry"], run["seed"]) for run in runs} == {
        (f"norm={norm}", seed) for norm in ("rmsnorm", "layernorm") for seed in (1, 2, 3)
    }
    assert all((folder / run["folder"] / "config.json").exists() for run in runs)


def test_the_same_command_goes_on_and_takes_further_seeds(folder, keras_lm):
    keras_lm("race", "--race-dir", folder, *VARY, "--seeds", "1", *TINY)
    before = [run.run_id for run in Race(folder, Supervisor(folder)).runs()]
    assert keras_lm("race", "--race-dir", folder, "--seeds", "1,5") == 0
    runs = Race(folder, Supervisor(folder)).runs()
    assert [run.run_id for run in runs][:2] == before and [run.seed for run in runs] == [1, 1, 5, 5]


def test_a_race_whose_run_was_interrupted_is_not_a_success(folder, keras_lm, monkeypatch, capsys):
    keras_lm("race", "--race-dir", folder, *VARY, "--seeds", "1", *TINY)
    race = Race(folder, Supervisor(folder))
    run = race.runs()[0]
    race.supervisor.folder(run.run_id).write_status(state="interrupted", message="It was killed.")
    monkeypatch.setattr(Supervisor, "resume", lambda *_: None)
    assert keras_lm("race", "--race-dir", folder) == command.NOT_ALL_FINISHED
    assert f"{run.entry}, seed 1: It was killed." in capsys.readouterr().err


def test_the_last_run_of_a_race_writes_the_result_when_nobody_waits(
    folder, keras_lm, monkeypatch, capsys
):
    keras_lm("race", "--race-dir", folder, *VARY, "--seeds", "1", *TINY)
    (folder / "result.json").unlink()
    race = Race(folder, Supervisor(folder))
    run = race.supervisor.folder(race.runs()[1].run_id)
    config = run.read_config()
    config["data"]["data"] = str(folder / "gone.txt")
    run.write_config(config)
    run.write_status(state="stopped")
    assert keras_lm("resume", "--run-dir", run.path) == 2
    assert "gone.txt" in capsys.readouterr().err
    assert "gone.txt" in json.loads((folder / "result.json").read_text())["entries"][1]["failed"][0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "A new race needs --vary attention=standard,flash,linear, but got 'nothing'"),
        (["--vary", "norm"], "but got 'norm'"),
        (["--vary", "colour=1,2"], "A race can vary one of"),
        (["--vary", "norm=rmsnorm"], "needs 2 to 6 different values of norm"),
        (["--vary", "learning-rate=1e-3,x"], "values of learning_rate must be numbers, but got"),
        ([*VARY, "--seeds", "1,x"], "--seeds must be whole numbers such as"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(folder, keras_lm, capsys, words, message):
    assert keras_lm("race", "--race-dir", folder, *words, *TINY) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1 and not folder.exists()


def test_a_folder_in_use_and_a_second_race_are_refused(folder, keras_lm, capsys):
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    assert keras_lm("race", "--race-dir", folder, *VARY, *TINY) == 2
    assert "holds 'mine.txt'" in capsys.readouterr().err
    (folder / "mine.txt").unlink()
    assert keras_lm("race", "--race-dir", folder, *VARY, *TINY) == 0
    assert keras_lm("race", "--race-dir", folder, *VARY) == 2
    assert keras_lm("race", "--race-dir", folder, "--steps", "9") == 2
    assert "already holds a race" in capsys.readouterr().err


def test_ctrl_c_stops_the_runs(folder, keras_lm, monkeypatch):
    stopped = []

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "wait", interrupted)
    monkeypatch.setattr(Race, "stop", lambda race: stopped.append(race.path))
    assert keras_lm("race", "--race-dir", folder, *VARY, *TINY) == 130
    assert stopped == [folder]


def test_a_report_is_written_and_replaces_only_a_report(folder, keras_lm, capsys, tmp_path):
    keras_lm("race", "--race-dir", folder, *VARY, *TINY)
    run = next(path for path in folder.iterdir() if path.is_dir())
    out = tmp_path / "report.html"
    for source in (["--race-dir", folder], ["--run-dir", run]):
        assert keras_lm("report", *source, "--out", out) == 0
    assert "Finished at step 3 of 3" in out.read_text()
    out.write_text("my own page")
    assert keras_lm("report", "--run-dir", run, "--out", out) == 2
    assert out.read_text() == "my own page"
    for flag in ("--run-dir", "--race-dir"):
        assert keras_lm("report", flag, tmp_path / "nowhere", "--out", tmp_path / "x.html") == 2
    assert "There is no race in" in capsys.readouterr().err and not (tmp_path / "x.html").exists()


def test_a_race_for_tensorboard_needs_its_package_before_anything_starts(
    folder, keras_lm, monkeypatch, capsys
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert keras_lm("race", "--race-dir", folder, *VARY, *TINY, "--tensorboard") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "tensorboard needs the Python package tensorboard" in line and not folder.exists()
