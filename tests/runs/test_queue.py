"""The queue: order, one trainer at a time, and whose process a run is."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from keras_lm.runs import process
from keras_lm.runs.process import claim, hold, is_alive, is_claimed, process_identity
from keras_lm.runs.queue import active_runs, enqueued, runs_ahead, wait_for_turn
from keras_lm.runs.slots import TURN_FILE
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.storage.run_names import list_runs

ROOT = Path(__file__).parents[2]
ME = process_identity()


@pytest.fixture(autouse=True)
def release():
    yield
    while process._held:
        process._held.pop().close()


def make(root, number: int, **status) -> RunFolder:
    """A run whose process is this one, queued at second `number`."""
    folder = RunFolder(root / f"20260101-000000-00000{number}")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    folder.write_status(**{"state": run_folder.QUEUED, "queued_at": float(number), **ME, **status})
    return folder


def test_the_order_is_that_of_queueing_and_of_ids_at_the_same_moment(tmp_path):
    late, early, tied = make(tmp_path, 1, queued_at=9.0), make(tmp_path, 2), make(tmp_path, 3)
    tied.write_status(queued_at=2.0)
    assert runs_ahead(early) == []
    assert [run.run_id for run in runs_ahead(tied)] == [early.run_id]
    assert {run.run_id for run in runs_ahead(late)} == {early.run_id, tied.run_id}


def test_a_run_with_a_name_of_its_own_stands_in_the_same_queue(tmp_path):
    early, late = make(tmp_path, 1), make(tmp_path, 3)
    os.rename(early.path, tmp_path / "mine")
    assert [run.run_id for run in runs_ahead(late)] == ["mine"]
    os.rename(late.path, tmp_path / "other")
    assert [run.run_id for run in runs_ahead(RunFolder(tmp_path / "other"))] == ["mine"]
    queued = enqueued(active_runs(list_runs(tmp_path)))
    assert queued["turn"] == 1.0  # behind both, which have the same owner


@pytest.mark.parametrize("state", ["paused", "finished", "stopped", "failed", "interrupted"])
def test_what_has_ended_or_died_is_not_ahead(tmp_path, state):
    make(tmp_path, 1, state=state)
    make(tmp_path, 2, state=run_folder.TRAINING, pid_started=1.0)
    assert runs_ahead(make(tmp_path, 3)) == []


def test_a_run_that_is_still_being_started_keeps_its_place_for_a_while(tmp_path, monkeypatch):
    starting, mine = make(tmp_path, 1, pid=None), make(tmp_path, 2)
    assert [run.run_id for run in runs_ahead(mine)] == [starting.run_id]
    monkeypatch.setattr(process, "START_SECONDS", 0.0)
    assert runs_ahead(mine) == []


def test_one_alone_trains_even_when_nobody_seems_to_be_ahead(tmp_path):
    """Who wrote its place down late would pass those who looked before."""
    mine, passed = make(tmp_path, 2), []
    assert hold(tmp_path / TURN_FILE)
    waiter = threading.Thread(target=lambda: passed.append(wait_for_turn(mine)))
    waiter.start()
    while "the run that trains" not in mine.read_status().get("message", ""):
        time.sleep(0.01)
    assert not passed
    process._held.pop().close()  # the trainer's end
    waiter.join(10)
    assert passed == [True] and not hold(tmp_path / TURN_FILE)


@pytest.mark.parametrize("request_", ["stop", "pause"])
def test_a_run_that_waits_can_be_taken_out(tmp_path, request_):
    make(tmp_path, 1)
    mine = make(tmp_path, 2)
    mine.request(request_)
    assert not wait_for_turn(mine)


def test_a_claimed_run_is_alive_whatever_the_clock_says(tmp_path):
    """A clock that is set moves the start of every process."""
    folder = make(tmp_path, 1, pid_started=ME["pid_started"] + 3600)
    assert not is_claimed(folder) and not is_alive(folder)
    assert claim(folder) and is_claimed(folder) and is_alive(folder)
    process._held.pop().close()
    assert not is_claimed(folder) and not is_alive(folder)


def test_a_run_has_one_process_only(tmp_path):
    folder = make(tmp_path, 1, state=run_folder.INTERRUPTED)
    assert claim(folder)
    before = folder.read_status()
    command = [sys.executable, "-m", "keras_lm", "resume", "--run-dir", str(folder.path)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 2 and "still active" in second.stderr
    assert folder.read_status() == before


def test_a_look_at_the_claim_does_not_keep_the_process_from_it(tmp_path):
    folder, stop = make(tmp_path, 1), threading.Event()

    def look():
        while not stop.is_set():
            is_claimed(folder)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        assert claim(folder)
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_lock_ends_with_its_process(tmp_path):
    program = (
        "import sys, pathlib; from keras_lm.runs.process import hold\n"
        "print(hold(pathlib.Path(sys.argv[1])), flush=True); sys.stdin.read()"
    )
    path = tmp_path / TURN_FILE
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"True\n" and not hold(path)
    os.kill(child.pid, 9)
    child.communicate()
    assert hold(path)


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_holds_nobody_off(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(process.fcntl, "flock", refuse)
    folder = RunFolder(tmp_path / "20260101-000000-abcdef")
    folder.create()
    assert process.claim(folder) and not process.is_claimed(folder)
    other = subprocess.Popen(["sleep", "60"])
    try:  # its number and start say what a lock would say
        started = psutil.Process(other.pid).create_time()
        folder.write_status(state=run_folder.TRAINING, pid=other.pid, pid_started=started)
        assert process.is_alive(folder) and not process.claim(folder)
    finally:
        other.kill()
        other.wait()
    assert not process.is_alive(folder) and process.claim(folder)


@pytest.mark.parametrize("error", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_lock_that_another_has_is_waited_for_and_not_got(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(process.fcntl, "flock", refuse)
    assert not process.hold(tmp_path / "lock")
