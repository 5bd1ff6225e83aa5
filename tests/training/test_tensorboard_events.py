"""The events for TensorBoard, read by TensorBoard's own reader."""

import dataclasses
import importlib.util

import pytest

from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.config import ConfigError
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training.progress import Progress, Requests, Run
from keras_lm.training.tensorboard_events import TensorBoard
from tests.training.small_run import CONFIG, events_of, train

SWITCHED_ON = dataclasses.replace(
    CONFIG, training=dataclasses.replace(CONFIG.training, tensorboard=True)
)


def run_at(folder: RunFolder, step: int) -> Run:
    """A run of which a process begins at this step."""
    folder.create()
    progress = Progress(started=0.0, step=step)
    return Run(folder, SWITCHED_ON, None, progress, Requests(folder), lambda line: None)  # type: ignore


def metrics(step: int, loss: float) -> dict:
    return {"kind": "metrics", "step": step, "loss": loss}


def read_back(folder: RunFolder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder.tensorboard)).Reload()


def scalars(folder: RunFolder, tag: str) -> list[tuple[int, float]]:
    return [(point.step, round(point.value, 4)) for point in read_back(folder).Scalars(tag)]


def test_a_run_writes_its_curve_samples_and_settings_and_learns_the_same(
    tmp_path, corpus, straight, monkeypatch, quick
):
    folder = train(tmp_path, corpus, monkeypatch, SWITCHED_ON)
    points = [event for event in events_of(folder) if event["kind"] == "metrics"]
    assert points == [event for event in events_of(straight) if event["kind"] == "metrics"]
    assert scalars(folder, "loss") == [(e["step"], round(e["loss"], 4)) for e in points]
    found = read_back(folder)
    assert {"learning_rate", "tokens_per_second"} <= {*found.Tags()["scalars"]}
    samples = [event["step"] for event in events_of(folder) if event["kind"] == "sample"]
    assert [text.step for text in found.Tensors("sample")] == samples
    settings = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"learning_rate" in settings and b"num_heads" in settings


def test_a_run_that_goes_on_takes_back_what_came_after_its_checkpoint(tmp_path):
    folder = RunFolder(tmp_path / "run")
    first = TensorBoard(run_at(folder, 0))
    for step in (4, 8, 12):
        first.write(metrics(step, step / 10))
    again = TensorBoard(run_at(folder, 8))
    again.file = folder.tensorboard_file(2**31)  # of a later second
    again.write(metrics(12, 5.0))
    assert scalars(folder, "loss") == [(4, 0.4), (8, 0.8), (12, 5.0)]


def test_what_fails_is_noted_once(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.tensorboard.write_bytes(b"somebody's")
    board = TensorBoard(run_at(folder, 3))
    board.write(metrics(4, 0.5))
    [note] = folder.read_events()[0]
    assert note["step"] == 3
    assert note["message"] == "TensorBoard's events end here: File exists. The run goes on."


def test_a_run_that_is_removed_takes_its_events_along_and_leaves_those_of_others(tmp_path):
    for others in ([], ["events.out.tfevents.1.elsewhere"]):
        folder = RunFolder(tmp_path / "run")
        TensorBoard(run_at(folder, 0))
        for name in others:
            (folder.tensorboard / name).write_bytes(b"theirs")
        folder.remove()
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == others


def test_without_the_package_no_run_starts(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    CONFIG.training.check_installed()
    with pytest.raises(ConfigError, match=r"tensorboard needs .* pip install '.\[tensorboard\]'"):
        SWITCHED_ON.training.check_installed()


def test_without_the_package_the_supervisor_makes_no_run(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="not installed"):
        Supervisor(tmp_path / "runs").start(SWITCHED_ON)
    assert not (tmp_path / "runs").exists()
