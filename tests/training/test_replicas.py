"""Training by several replicas is the training of one device: see `replica_checks.py`.

And by several processes it is that of several devices, to the bit, also after one was killed.
"""

import dataclasses
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from keras_lm.generation.bundle import load
from keras_lm.presentation.repeating import train_command
from keras_lm.storage.run_folder import RunFolder
from tests.training.small_run import SHARED, events_of

pytestmark = [pytest.mark.xla, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What the checks printed; the run `straight` is in the folder "folder"."""
    folder = tmp_path_factory.mktemp("replicas")
    config = folder / "config.json"
    config.write_text(json.dumps(SHARED.to_dict()))
    words = [sys.executable, "-m", "tests.training.replica_checks", str(folder), str(config)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout) | {"folder": folder}


@pytest.mark.parametrize("name", ["adamw", "muon", "float16", "task"])
def test_losses_are_those_of_one_device_with_the_whole_batch(found, name):
    """Over ten steps to 1e-5 and over fifty to 1e-3; 16 bits only know three digits."""
    alone, together = (np.array(found[name][key]) for key in ("alone", "together"))
    close = 2e-3 if name == "float16" else 1e-5
    assert np.abs(alone - together)[:10, 0].max() < close
    assert np.abs(alone - together)[:, 0].max() < 1e-3 + close
    assert alone[:10, 2] == pytest.approx(together[:10, 2], rel=100 * close)  # the gradient's norm
    assert alone[0, 0] != alone[-1, 0]


@pytest.mark.parametrize("name", ["adamw", "muon", "float16", "task"])
def test_every_replica_makes_the_same_update_to_the_bit(found, name):
    assert found[name]["replicas_equal"] == [True] * (3 if name == "adamw" else 1)


@pytest.mark.parametrize("name", ["dropout", "float16"])
def test_a_gradient_that_is_not_finite_on_one_replica_is_so_for_all(found, name):
    assert found[name]["is_finite"] == [False, False]


def test_with_a_loss_scale_all_replicas_leave_that_update_out(found):
    seen = found["float16"]
    before, after = seen["scales"]
    assert seen["weights_kept"] and before[0] == before[1]
    assert after == [before[0] / 2] * 2
    assert 0.0 < seen["next_loss"] < 10.0
    assert not found["dropout"]["weights_kept"]


def test_replicas_drop_different_units(found):
    (first, drawn), (second, drawn_too) = found["dropout"]["seeds"]
    assert first != second and drawn == drawn_too > 0


def test_a_batch_that_cannot_be_divided_is_one_sentence(found):
    assert found["indivisible"] == (
        "batch_size must be a multiple of the number of replicas, but got 5 for 2: choose for "
        "example 6."
    )


def test_a_shared_run_looks_like_any_other(found):
    folder = RunFolder(found["folder"] / "straight")
    status = folder.read_status()
    steps = SHARED.training.steps
    assert (status["state"], status["step"]) == ("finished", steps)
    points = [event for event in events_of(folder) if event["kind"] == "metrics"]
    assert points[-1]["step"] == steps and "val_loss" in points[-1]
    assert points[-1]["tokens"] == steps * SHARED.tokens_per_step


class Worker(NamedTuple):
    """A process that ended: its exit code, what it said last, when it ended."""

    code: int
    said: str
    ended: float


def work_together(words: list[str], kills: tuple[int, ...]) -> list[Worker]:
    """Runs the command line in several processes of one run; each dies after so many updates."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in kills]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    for index, kill in enumerate(kills):
        task = {"type": "worker", "index": index}
        spec = {"cluster": {"worker": addresses}, "task": task}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.training.worker", str(kill), *words],
                env=os.environ | {"TF_CONFIG": json.dumps(spec)},
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    workers = []
    for process in reversed(processes):  # the one that dies first
        said = process.communicate(timeout=280)[1]
        workers.insert(0, Worker(process.returncode, said, time.monotonic()))
    return workers


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run of two processes, of which the second dies after six of twelve updates."""
    folder = tmp_path_factory.mktemp("workers") / "run"
    training = SHARED.training.changed(strategy="multi-worker")
    command = train_command(dataclasses.replace(SHARED, training=training))
    words = [*shlex.split(command)[1:], "--run-dir", str(folder)]
    workers = work_together(words, (0, 6))
    status = RunFolder(folder).read_status()
    points = [path.name for path in RunFolder(folder).checkpoints.iterdir()]
    return folder, workers, status, points


def test_a_killed_worker_ends_the_run_within_a_minute_so_that_it_can_be_resumed(killed):
    _, (chief, worker), status, checkpoints = killed
    assert (chief.code, worker.code) == (1, -9)
    assert chief.ended - worker.ended < 60
    assert "The connection to worker 1 (127.0.0.1:" in chief.said and "resume" in chief.said
    assert (status["state"], status["step"]) == ("interrupted", 6)
    assert status["message"] in chief.said
    assert checkpoints == ["step-00000004"]


def test_resumed_it_is_the_straight_run_of_two_devices_to_the_bit(killed, found):
    folder, *_ = killed
    chief, worker = work_together(["resume", "--run-dir", str(folder)], (0, 0))
    assert (chief.code, worker.code) == (0, 0), chief.said + worker.said
    waiting, ended = worker.said.splitlines()
    assert waiting.startswith("Waiting until all are there: worker 0 (127.0.0.1:")
    assert ended == "The run is finished."
    resumed, straight = RunFolder(folder), RunFolder(found["folder"] / "straight")
    assert resumed.read_status()["state"] == "finished"
    assert events_of(resumed) == events_of(straight)
    ours, theirs = (load(run.model_file).model.get_weights() for run in (resumed, straight))
    assert all(map(np.array_equal, ours, theirs))
    assert [name for name in os.listdir(folder) if "tmp" in name or "partial" in name] == []
