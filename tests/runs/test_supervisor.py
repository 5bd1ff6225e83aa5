"""Runs as processes: started, queued, stopped, killed, found again."""

import dataclasses
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_lm.keras_file.opening import ModelFileError
from keras_lm.runs.process import is_alive
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.config import ConfigError, DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage import run_folder
from keras_lm.storage.files import PARTIAL
from keras_lm.storage.run_folder import RunFolder

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
        if summary.is_active and summary.status.get("pid"):
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


def test_twenty_starts_at_once_give_one_run_and_nineteen_that_wait(supervisor):
    with ThreadPoolExecutor(20) as tabs:
        run_ids = [*tabs.map(supervisor.start, [TINY] * 20)]
    assert len(set(run_ids)) == len(supervisor.summaries()) == 20
    wait_until(lambda: all(summary.status.get("pid") for summary in supervisor.summaries()))
    first = min(supervisor.summaries(), key=lambda s: (s.status["queued_at"], s.run_id)).run_id
    wait_until(lambda: state(supervisor, first) != run_folder.QUEUED)
    waiting = [run_id for run_id in run_ids if run_id != first]
    assert {state(supervisor, run_id) for run_id in waiting} == {run_folder.QUEUED}

    for run_id in waiting[1:]:
        supervisor.request(run_id, "stop")
    for run_id in waiting[1:]:
        wait_until(lambda run_id=run_id: state(supervisor, run_id) == run_folder.STOPPED)
    assert state(supervisor, waiting[0]) == run_folder.QUEUED  # the first still has the turn
    os.kill(supervisor.folder(first).read_status()["pid"], signal.SIGKILL)
    wait_until(lambda: state(supervisor, waiting[0]) != run_folder.QUEUED)  # nobody handed it out
    assert state(supervisor, first) == run_folder.INTERRUPTED


def ended_run(supervisor, **status) -> str:
    """A run of which only the folder is left."""
    folder = RunFolder(supervisor.root / "20260101-000000-abcdef")
    folder.create()
    folder.write_config(TINY.with_vocab_size(23).to_dict())
    folder.write_status(state=run_folder.INTERRUPTED, **status)
    return folder.run_id


def test_a_run_resumed_in_many_tabs_gets_one_process(supervisor, monkeypatch):
    launched = []
    monkeypatch.setattr(supervisor, "_launch", lambda *words: launched.append(words))
    run_id = ended_run(supervisor)
    supervisor.request(run_id, "stop")  # what its last process did not hear any more
    with ThreadPoolExecutor(20) as tabs:
        [*tabs.map(supervisor.resume, [run_id] * 20)]
    assert [words[1:] for words in launched] == [("resume", "--wait-turn")]
    assert supervisor.folder(run_id).take_request() is None


def test_a_full_disk_does_not_keep_the_page_from_telling_that_a_run_died(supervisor, monkeypatch):
    run_id = ended_run(supervisor)
    supervisor.folder(run_id).write_status(state=run_folder.TRAINING, pid=1, pid_started=1.0)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_atomically", refuse)
    summary = supervisor.summary(run_id)
    assert summary.state == run_folder.INTERRUPTED and "batch_size" in summary.status["message"]


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


def test_an_upload_that_was_damaged_since_is_kept_anew(supervisor):
    kept = supervisor.keep_upload(b"abc", ".txt")
    kept.write_bytes(b"ab")
    leftover = kept.parent / f"{PARTIAL}upload"
    leftover.write_bytes(b"torn")
    os.utime(leftover, (1000, 1000))
    assert supervisor.keep_upload(b"abc", ".txt") == kept and kept.read_bytes() == b"abc"
    assert os.listdir(kept.parent) == [kept.name]
    kept.unlink()
    os.mkfifo(kept)
    assert supervisor.kept_upload(kept.stem, ".txt") is None
    assert supervisor.keep_upload(b"abc", ".txt").read_bytes() == b"abc"


def test_a_model_file_that_is_not_sound_is_not_kept(supervisor, sound):
    kept = supervisor.keep_upload(sound.read_bytes(), ".keras")
    assert kept.read_bytes() == sound.read_bytes()
    with pytest.raises(ModelFileError, match="^The file is not a keras_lm model, or it is damaged"):
        supervisor.keep_upload(sound.read_bytes()[:-1], ".keras")
    assert os.listdir(kept.parent) == [kept.name]
