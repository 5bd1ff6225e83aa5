"""Runs as processes: started, queued, stopped, killed, found again."""

import dataclasses
import os
import signal
import time

import pytest

from keras_lm import run_folder
from keras_lm.config import ConfigError, DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.model_file import ModelFileError
from keras_lm.runs.process import is_alive
from keras_lm.runs.supervisor import Supervisor

TINY = RunConfig(
    ModelConfig(context_length=7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5),
    DataConfig("alice"),
    TrainingConfig(steps=1_000_000, batch_size=2, eval_every=0, sample_every=0, checkpoint_every=0),
)
WAIT_SECONDS = 90.0


def wait_until(condition, seconds: float = WAIT_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


@pytest.fixture
def supervisor(tmp_path):
    supervisor = Supervisor(tmp_path / "runs")
    yield supervisor
    for summary in supervisor.summaries():
        if summary.is_active and "pid" in summary.status:
            os.kill(summary.status["pid"], signal.SIGKILL)


def state(supervisor: Supervisor, run_id: str) -> str:
    return supervisor.summary(run_id).state


def test_runs_train_one_after_the_other_and_stop_keeps_the_model(supervisor):
    first, second, third = (supervisor.start(TINY) for _ in range(3))
    wait_until(lambda: state(supervisor, first) == run_folder.TRAINING)
    assert [state(supervisor, run) for run in (second, third)] == [run_folder.QUEUED] * 2

    supervisor.request(second, "stop")  # taken out of the queue
    wait_until(lambda: state(supervisor, second) == run_folder.STOPPED)
    assert state(supervisor, first) == run_folder.TRAINING
    assert state(supervisor, third) == run_folder.QUEUED

    wait_until(lambda: supervisor.folder(first).read_events()[0])
    supervisor.request(first, "stop")
    wait_until(lambda: state(supervisor, first) == run_folder.STOPPED)
    assert supervisor.folder(first).model_file.exists()
    stopped_at = supervisor.folder(first).read_status()["step"]

    wait_until(lambda: state(supervisor, third) == run_folder.TRAINING)  # its turn has come
    another_server = Supervisor(supervisor.root)
    assert another_server.summary(third).is_active
    newest_first = [summary.run_id for summary in another_server.summaries()]
    assert newest_first == sorted((first, second, third), reverse=True)

    another_server.resume(first)  # it goes to the end of the queue
    assert state(supervisor, first) == run_folder.QUEUED
    supervisor.request(third, "stop")
    wait_until(lambda: supervisor.folder(first).read_status()["step"] > stopped_at)
    assert state(supervisor, first) == run_folder.TRAINING


def test_a_killed_run_is_interrupted_and_one_with_its_number_is_not_it(supervisor):
    run_id = supervisor.start(TINY)
    folder = supervisor.folder(run_id)
    wait_until(lambda: "pid" in folder.read_status())
    with pytest.raises(ConfigError, match="still active"):
        supervisor.delete(run_id)
    os.kill(folder.read_status()["pid"], signal.SIGKILL)
    wait_until(lambda: state(supervisor, run_id) == run_folder.INTERRUPTED)
    assert "killed" in folder.read_status()["message"]

    # Our own process has that number now, but began at another time.
    folder.write_status(state=run_folder.TRAINING, pid=os.getpid(), pid_started=1.0)
    assert not is_alive(folder)
    assert state(supervisor, run_id) == run_folder.INTERRUPTED
    supervisor.delete(run_id)
    assert supervisor.summary(run_id) is None


def test_a_run_that_cannot_begin_says_why(supervisor):
    data = dataclasses.replace(TINY.data, data="no-such-text")
    run_id = supervisor.start(dataclasses.replace(TINY, data=data))
    wait_until(lambda: state(supervisor, run_id) == run_folder.FAILED)
    assert "no-such-text" in supervisor.summary(run_id).status["message"]
    assert "Traceback" not in supervisor.folder(run_id).log_tail()


@pytest.mark.parametrize("name", ["../../etc", "20260101-000000-abcdef/..", "", "x" * 500])
def test_only_ids_of_ours_name_a_folder(supervisor, name):
    with pytest.raises(ConfigError, match="There is no run"):
        supervisor.folder(name)


def test_the_same_upload_is_kept_once_under_a_name_of_ours(supervisor):
    first = supervisor.keep_upload(b"abc", ".txt")
    assert first == supervisor.keep_upload(b"abc", ".txt") != supervisor.keep_upload(b"d", ".txt")
    assert first.read_bytes() == b"abc" and first.parent.parent == supervisor.root
    assert supervisor.kept_upload(first.stem, ".txt") == first
    for name in (first.stem[:-1] + "g", "", "../../etc/passwd", f"../uploads/{first.stem}"):
        assert supervisor.kept_upload(name, ".txt") is None


def test_a_model_file_that_is_not_sound_is_not_kept(supervisor, sound):
    kept = supervisor.keep_upload(sound.read_bytes(), ".keras")
    assert kept.read_bytes() == sound.read_bytes()
    with pytest.raises(ModelFileError, match="^The file is not a sound keras_lm model"):
        supervisor.keep_upload(sound.read_bytes()[:-1], ".keras")
    assert os.listdir(kept.parent) == [kept.name]
