"""Slots: how many there are, that none is lost, and whose turn it is."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from keras_lm.runs import process, queue, slots
from keras_lm.runs.expected_wait import expected_waits
from keras_lm.runs.process import process_identity
from keras_lm.runs.queue import active_runs, enqueued, runs_ahead, wait_for_turn, waiting
from keras_lm.runs.slots import SLOTS_VARIABLE, chosen_slots, shares, take_slot, usual_slots
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.estimates import Speed
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import QUEUED, STOPPED, TRAINING, RunFolder
from keras_lm.storage.run_names import list_runs
from keras_lm.system.machine import num_cores

ROOT = Path(__file__).parents[2]
# A run's process without its training: it waits for its turn, and then trains until it is killed.
TRAINER = """
import os, sys, time
from keras_lm.runs.process import claim, process_identity
from keras_lm.runs.queue import wait_for_turn
from keras_lm.storage.run_folder import RunFolder
folder = RunFolder(sys.argv[1])
assert claim(folder)
folder.write_status(**process_identity())
if wait_for_turn(folder):
    affinity = getattr(os, "sched_getaffinity", lambda _: [])  # not on macOS
    cores = ",".join(map(str, sorted(affinity(0))))
    folder.write_status(state="training", message=cores)
    time.sleep(300)
folder.write_status(state="stopped")
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.02)
    yield
    while process._held:
        process._held.pop().close()


@pytest.fixture
def trainers(tmp_path, monkeypatch):
    """Starts the process of a run; the machine has two slots."""
    monkeypatch.setenv(SLOTS_VARIABLE, "2")
    children = []

    def start(folder: RunFolder) -> subprocess.Popen:
        command = [sys.executable, "-c", TRAINER, str(folder.path)]
        children.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def make(root: Path, number: int, owner: str = "", **status) -> RunFolder:
    """A run whose process is this one, queued after those that there are."""
    folder = RunFolder(root / f"20260101-000000-{number:06x}")
    folder.create()
    folder.write_config(QUICK_START.to_dict())
    entry = enqueued(active_runs(list_runs(root)), owner) | {"state": QUEUED, **process_identity()}
    folder.write_status(**entry | {"queued_at": 100.0 + number} | status)
    return folder


def order(root: Path) -> list[int]:
    """The numbers of the runs that wait, the next one first."""
    return [int(p.run_id[-6:], 16) for p in waiting(active_runs(list_runs(root)))]


def wait_until(condition) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def is_training(folder: RunFolder) -> bool:
    return folder.read_status().get("state") == TRAINING


@pytest.mark.parametrize(
    ("cores", "memory", "largest", "expected"),
    [(1, 100, 0, 1), (2, 100, 0, 1), (3, 100, 0, 1), (4, 100, 0, 2), (64, 100, 0, 32)]
    + [(64, 100, 50, 2), (64, 100, 51, 1), (64, 100, 101, 1), (4, 100, 1, 2)],
)
def test_usually_there_is_a_slot_for_two_cores_as_far_as_memory_holds(
    cores, memory, largest, expected
):
    assert usual_slots(cores, memory, largest) == expected


@pytest.mark.parametrize("words", ["0", "-1", "1.5", "many", "²"])
def test_a_number_of_slots_that_is_none_is_refused_before_a_run_starts(
    tmp_path, monkeypatch, words
):
    monkeypatch.setenv(SLOTS_VARIABLE, words)
    with pytest.raises(ConfigError, match="a whole number from 1"):
        Supervisor(tmp_path).start(QUICK_START)
    assert not list_runs(tmp_path)
    monkeypatch.setenv(SLOTS_VARIABLE, " ")
    assert chosen_slots() is None


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_cores_are_shared_evenly(cores, count):
    found = shares([*range(cores)], count)
    sizes = [len(share) for share in found]
    assert len(found) == count and max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    assert {core for share in found for core in share} == {*range(cores)}
    assert count > cores or sum(sizes) == cores


def test_cores_that_the_system_does_not_show_are_used_all_the_same(tmp_path, monkeypatch):
    """As in some containers, whose cores have numbers beyond those that are seen."""
    kept = []
    monkeypatch.setattr(slots, "_cores", lambda: [7, 8])
    monkeypatch.setattr(slots, "_keep_to", kept.append)
    monkeypatch.setattr(slots.psutil, "cpu_percent", lambda *_, percpu: [1.0] * 7 + [90.0])
    assert [take_slot(tmp_path, 2) for _ in range(3)] == [True, True, False]
    assert kept == [[8], [7]]  # the busy one last


def test_the_only_slot_has_all_cores_and_is_that_of_earlier_versions(tmp_path):
    before = psutil.Process().cpu_affinity() if hasattr(os, "sched_getaffinity") else None
    assert take_slot(tmp_path, 1) and os.listdir(tmp_path) == [".turn"]
    assert before is None or psutil.Process().cpu_affinity() == before
    taken: list[bool] = []
    take = threading.Thread(target=lambda: taken.extend(take_slot(tmp_path, 2) for _ in range(2)))
    take.start()  # it alone is kept to a core
    take.join()
    assert taken == [True, False]


def test_two_train_at_once_and_a_killed_one_gives_its_slot_back(tmp_path, trainers):
    runs = [make(tmp_path, number, pid=None) for number in range(4)]
    processes = [trainers(run) for run in runs[:3]]
    wait_until(lambda: is_training(runs[0]) and is_training(runs[1]))
    wait_until(lambda: runs[2].read_status().get("message") == "Waiting for 1 earlier run.")
    if hasattr(os, "sched_getaffinity") and num_cores() > 1:
        cores = [run.read_status()["message"].split(",") for run in runs[:2]]
        assert not {*cores[0]} & {*cores[1]}
    processes[0].kill()
    wait_until(lambda: is_training(runs[2]))
    assert is_training(runs[1])
    # One that waits is killed: nobody waits for it. One whose folder is removed ends.
    waits = trainers(runs[3])
    goes, last = make(tmp_path, 4, pid=None), make(tmp_path, 5, pid=None)
    ends, follows = trainers(goes), trainers(last)
    wait_until(lambda: last.read_status().get("message") == "Waiting for 3 earlier runs.")
    waits.kill()
    goes.path.rename(tmp_path.parent / f"{tmp_path.name}-gone")  # at once: its process writes there
    assert ends.wait(30) != 0
    processes[1].kill()
    wait_until(lambda: is_training(last))
    assert follows.poll() is None and not goes.path.exists()


def test_a_run_that_two_servers_queue_for_never_finds_more_slots(tmp_path, monkeypatch):
    """The locks count, whatever the statuses say: here all waiters believe to be the first."""
    monkeypatch.setenv(SLOTS_VARIABLE, "2")
    monkeypatch.setattr(queue, "runs_ahead", lambda _: [])
    runs, passed = [make(tmp_path, number) for number in range(6)], []
    waiters = [
        threading.Thread(target=lambda run=run: passed.append(run) if wait_for_turn(run) else None)
        for run in runs
    ]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: len(passed) == 2)
    time.sleep(0.3)
    assert len(passed) == 2
    for run in runs:
        run.request("stop")
    for waiter in waiters:
        waiter.join()
    assert len(passed) == 2


def test_owners_take_turns(tmp_path):
    """A race of eighteen makes nobody wait for more than the run that is next."""
    for number in range(18):
        make(tmp_path, number, "race", state=QUEUED)
    RunFolder(list_runs(tmp_path)[-1].path).write_status(state=TRAINING)
    for number in (20, 21):
        make(tmp_path, number, "somebody")
    make(tmp_path, 30, "another")
    assert order(tmp_path)[:6] == [20, 30, 1, 21, 2, 3]


def test_turns_are_kept_while_runs_end_and_come(tmp_path):
    """Two owners with three runs each, one slot; each run that ends is followed by the next."""
    for number, owner in enumerate("aaabbb"):
        make(tmp_path, number, owner)
    trained = []
    while found := order(tmp_path):
        run = RunFolder(tmp_path / f"20260101-000000-{found[0]:06x}")
        run.write_status(state=TRAINING)
        if found[0] == 0:
            make(tmp_path, 9, "late")  # who came when the first one trained
        trained.append(found[0])
        run.write_status(state=STOPPED)
    assert trained == [0, 3, 9, 1, 4, 2, 5]


def test_a_resumed_run_of_an_earlier_version_has_a_position(tmp_path):
    old = make(tmp_path, 1)
    old.status_file.write_text('{"state": "training", "heartbeat": 1.0}')
    assert order(tmp_path) == [] and queue.first_position(old)["turn"] == 0.0


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([(3, "front")], [3, 0, 1, 2]),
        ([(0, "front")], [0, 1, 2, 3]),
        ([(0, "up")], [0, 1, 2, 3]),
        ([(2, "up")], [0, 2, 1, 3]),
        ([(2, "up"), (2, "up")], [2, 0, 1, 3]),
        ([(0, "down")], [1, 0, 2, 3]),
        ([(3, "down")], [0, 1, 2, 3]),
        ([(2, "down")], [0, 1, 3, 2]),
        ([(3, "front"), (2, "front"), (3, "down")], [2, 0, 3, 1]),
    ],
    ids=lambda value: ",".join(map(str, value)).replace(" ", ""),
)
@pytest.mark.parametrize("owners", ["aaaa", "abab"])
def test_a_run_that_waits_is_moved(tmp_path, owners, moves, expected):
    """Positions are those of the queue: with two owners other runs stand there."""
    for number, owner in enumerate(owners):
        make(tmp_path, number, owner)
    names = order(tmp_path)
    for index, request in moves:
        queue.move(RunFolder(tmp_path / f"20260101-000000-{names[index]:06x}"), request)
    assert order(tmp_path) == [names[index] for index in expected]


def test_a_run_can_be_moved_again_and_again(tmp_path):
    runs = [make(tmp_path, number) for number in range(3)]
    for _ in range(10):
        queue.move(runs[2], "up")
        assert order(tmp_path) == [0, 2, 1]
        queue.move(runs[1], "up")
        assert order(tmp_path) == [0, 1, 2]


def test_the_run_itself_moves_when_it_is_asked_to(tmp_path, monkeypatch):
    first, second = make(tmp_path, 1), make(tmp_path, 2)
    second.request("front")
    passed = []
    assert slots.hold(tmp_path / slots.TURN_FILE)
    waiter = threading.Thread(target=lambda: passed.append(wait_for_turn(second)))
    waiter.start()
    wait_until(lambda: order(tmp_path) == [2, 1])
    wait_until(lambda: "the run that trains" in second.read_status().get("message", ""))
    assert [run.run_id for run in runs_ahead(first)] == [second.run_id]
    second.request("stop")
    waiter.join()
    assert passed == [False]


def test_a_wait_is_what_those_before_are_expected_to_take(tmp_path):
    folders = [make(tmp_path, number) for number in range(4)]
    speed, supervisor = Speed(), Supervisor(tmp_path)
    assert {*expected_waits(supervisor.summaries(), 1, speed).values()} == {0.0, None}
    folders[0].write_status(state=TRAINING, step=50, steps=100, vocab_size=80)
    for slot_count in (1, 2):
        waits = expected_waits(supervisor.summaries(), slot_count, speed)
        first, second, third = (waits[folder.run_id] for folder in folders[1:])
        if slot_count == 1:  # a half, then a whole run each
            half = first
            assert first > 0.0 and second == pytest.approx(3 * first)
            assert third == pytest.approx(5 * first)
        else:
            assert first == 0.0 and third == pytest.approx(2 * second)
    folders[0].write_status(ends_at=time.time() + 7.0)
    waits = expected_waits(supervisor.summaries(), 1, speed)
    assert waits[folders[1].run_id] == pytest.approx(7.0, abs=1.0)
    folders[1].write_status(step=50, steps=100, ends_at=time.time() - 99.0)  # before it was resumed
    waits = expected_waits(supervisor.summaries(), 1, speed)
    assert waits[folders[2].run_id] == pytest.approx(7.0 + half, abs=1.0)
    folders[1].write_status(step=100, steps=100)  # it had finished, and is trained longer
    waits = expected_waits(supervisor.summaries(), 1, speed)
    assert waits[folders[1].run_id] is not None and waits[folders[2].run_id] is None
