"""A run whose process began so late that somebody took it for dead, or that was not to go on."""

import pytest

from keras_lm import cli
from keras_lm.runs import process
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run of the page that has not begun; whatever trains it does nothing."""
    folder = RunFolder(tmp_path / "20260101-000000-abcdef")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    monkeypatch.setattr(cli, "run", lambda *_: 0)
    yield folder
    while process._held:
        process._held.pop().close()


def begin(folder: RunFolder) -> int:
    arguments = cli.build_parser().parse_args(["train", "--run-dir", str(folder.path)])
    return cli.train_written(folder, arguments)


@pytest.mark.parametrize("state", [run_folder.QUEUED, run_folder.INTERRUPTED])
def test_what_never_began_begins(folder, state):
    folder.write_status(state=state)
    assert begin(folder) == 0


@pytest.mark.parametrize("has_begun", [False, True])
def test_what_ended_or_has_begun_is_not_begun_again(folder, has_begun):
    folder.write_status(state=run_folder.INTERRUPTED if has_begun else run_folder.FAILED)
    if has_begun:
        folder.model_file.write_bytes(b"a model")
    with pytest.raises(ConfigError, match="already holds a run"):
        begin(folder)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, run_folder.STOPPED),
        ({"step": 0, "steps": 9}, run_folder.STOPPED),
        ({"step": 8, "steps": 9}, run_folder.STOPPED),
        ({"step": 9, "steps": 9}, run_folder.FINISHED),
    ],
)
def test_a_run_that_was_not_to_go_on_is_what_it_was(folder, status, state):
    folder.write_status(state=run_folder.QUEUED, **status)
    assert folder.state_before_more == state
