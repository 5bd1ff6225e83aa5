"""The command `queue`: lists what trains and waits, moves it and takes it out."""

import sys

import pytest

from keras_lm import cli
from keras_lm.runs.process import process_identity
from keras_lm.runs.slots import SLOTS_VARIABLE
from keras_lm.settings.presets import QUICK_START
from keras_lm.settings.training_config import MOST_STEPS
from keras_lm.storage.run_folder import MOVES, QUEUED, TRAINING, RunFolder


@pytest.fixture
def runs(tmp_path):
    """One that trains, and two that wait in another order than that of their ids."""

    def make(number: int, state: str, turn: float) -> RunFolder:
        folder = RunFolder(tmp_path / f"20260101-000000-00000{number}")
        folder.create()
        folder.write_config(QUICK_START.to_dict())
        status = {"state": state, "turn": turn, "step": 50, "steps": 100, **process_identity()}
        folder.write_status(**status, vocab_size=80, validation_tokens=1_000)
        return folder

    return make(1, TRAINING, 0.0), make(2, QUEUED, 2.0), make(3, QUEUED, 1.0)


def run(monkeypatch, root, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["keras-lm", "queue", "--runs-dir", str(root), *words])
    return cli.main()


def test_the_runs_are_listed_in_their_order(tmp_path, runs, monkeypatch, capsys):
    assert run(monkeypatch, tmp_path) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [runs[n].run_id for n in (0, 2, 1)]
    assert lines[0][1] == "step 50 of 100" and lines[1][1].startswith("waits, number 1, in about ")
    runs[0].write_status(steps=MOST_STEPS)  # its pace is not known yet
    assert run(monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out.split("  ")[1] == "step 50"
    assert run(monkeypatch, tmp_path / "nothing") == 0
    assert capsys.readouterr().out == "No run trains or waits.\n"


@pytest.mark.parametrize("action", [*MOVES, "stop"])
def test_a_run_is_asked_by_its_id_or_the_end_of_that(tmp_path, runs, monkeypatch, action):
    for name in (runs[1].run_id, "000002"):
        assert run(monkeypatch, tmp_path, f"--{action}", name) == 0
        assert runs[1].take_request() == action


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--front", "00000"], "names 0"),
        (["--stop", ""], "names 0"),
        (["--up", "000009"], "names 0"),
        (["--front", "000001"], "trains already"),
    ],
    ids=["a beginning", "nothing", "unknown", "trains"],
)
def test_what_names_no_run_that_waits_is_refused(
    tmp_path, runs, monkeypatch, capsys, words, reason
):
    assert run(monkeypatch, tmp_path, *words) == cli.BAD_INPUT
    assert reason in capsys.readouterr().err
    assert all(folder.take_request() is None for folder in runs)


@pytest.mark.parametrize(("words", "chosen"), [([], "1"), (["--slots", "3"], "3")])
def test_the_page_is_opened_with_the_slots_that_are_named(monkeypatch, words, chosen):
    opened = []
    monkeypatch.setenv(SLOTS_VARIABLE, "1")
    monkeypatch.setattr(cli.os, "execv", lambda *found: opened.append(found))
    monkeypatch.setattr(sys, "argv", ["keras-lm", "ui", *words, "--server.port", "8600"])
    cli.main()
    assert cli.os.environ[SLOTS_VARIABLE] == chosen
    assert opened[0][1][-2:] == ["--server.port", "8600"]
    monkeypatch.setattr(sys, "argv", ["keras-lm", "ui", "--slots", "x"])
    assert cli.main() == cli.BAD_INPUT and len(opened) == 1
