"""Runs on a cluster: who is alive there, lost nodes, and one real cluster of which a node dies."""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from keras_lm.runs import process, queue, ray_queue
from keras_lm.runs.process import DEAD_SECONDS, claim, is_alive, process_identity
from keras_lm.runs.ray_queue import MOST_LOST, RAY_VARIABLE, join, train_elsewhere
from keras_lm.runs.slots import SLOTS_VARIABLE
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage.run_folder import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    PREPARING,
    QUEUED,
    STOPPED,
    TRAINING,
    RunFolder,
)

ROOT = Path(__file__).parents[2]
TINY = RunConfig(
    ModelConfig(context_length=7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5),
    DataConfig("alice"),
    TrainingConfig(
        steps=1_000_000, batch_size=2, eval_every=0, sample_every=0, checkpoint_every=100
    ),
)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "20260101-000000-abcdef")
    folder.create()
    folder.write_config(TINY.with_vocab_size(23).to_dict())
    folder.write_status(state=QUEUED, **process_identity())
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(queue, "POLL_SECONDS", 0.02)
    yield
    while process._held:
        process._held.pop().close()


@pytest.mark.parametrize(
    ("host", "age", "alive"),
    [
        ("elsewhere", 0.0, True),
        ("elsewhere", DEAD_SECONDS - 5.0, True),
        ("elsewhere", DEAD_SECONDS + 5.0, False),
        ("", 0.0, False),
    ],
    ids=["elsewhere", "nearly dead", "dead", "here"],
)
def test_a_process_elsewhere_lives_by_its_heartbeat_and_one_here_by_its_number(
    folder, monkeypatch, host, age, alive
):
    here = {"host": host} if host else {}
    folder.write_status(state=TRAINING, pid_started=1.0, **here)
    now = time.time()
    monkeypatch.setattr(process.time, "time", lambda: now + age)
    assert is_alive(folder) == alive
    assert claim(folder) != alive  # who is dead leaves the run to others


@pytest.mark.parametrize("status", [{"state": FINISHED}, {"state": QUEUED, "pid": None}])
def test_a_run_that_ended_elsewhere_just_now_may_be_taken_up(folder, status):
    folder.write_status(host="elsewhere", pid_started=1.0, **status)
    assert claim(folder)


class NodeDied(Exception):
    """What Ray raises when a node is lost."""


class TaskFailed(NodeDied):
    """What it raises for an error in the task, which is a kind of the former there, too."""

    cause = "no such folder"


def cluster(monkeypatch, *ends) -> list[list[str]]:
    """A cluster whose tasks end so: with an exit code, an error, or as a function says."""
    submitted, left, cancelled = [], [*ends], []

    def submit(ray, folder, words):
        submitted.append(words)
        return left.pop(0)

    def wait(tasks, timeout):
        (task,) = tasks
        ready = not callable(task) or task()
        return (tasks, []) if ready else ([], tasks)

    def get(task):
        if isinstance(task, Exception):
            raise task
        return 0 if callable(task) else task

    errors = SimpleNamespace(RayError=NodeDied, RayTaskError=TaskFailed)
    cancel = lambda task, force: cancelled.append(task)  # noqa: E731
    ray = SimpleNamespace(wait=wait, get=get, cancel=cancel, exceptions=errors)
    monkeypatch.setattr(ray_queue, "connect", lambda: ray)
    monkeypatch.setattr(ray_queue, "on_ending", lambda action: None)
    monkeypatch.setattr(ray_queue, "_submit", submit)
    return submitted


def test_a_lost_node_is_an_interrupted_run_that_goes_on_elsewhere(folder, monkeypatch):
    submitted = cluster(monkeypatch, NodeDied(), NodeDied(), 0)
    assert train_elsewhere(folder) == 0
    attempts = [words[words.index("--attempt") + 1] for words in submitted]
    assert len({*attempts}) == 3 and folder.read_status()["attempt"] == attempts[-1]


def test_how_much_longer_it_trains_is_asked_for_until_it_is_planned(folder, monkeypatch):
    def begin_and_die() -> bool:
        folder.append_event({"kind": "plan", "step": 5, "begin": 5, "steps": 10})
        raise NodeDied

    submitted = cluster(monkeypatch, NodeDied(), begin_and_die, 0)
    assert train_elsewhere(folder, ["--steps", "5"]) == 0
    assert [words[-2:] == ["--steps", "5"] for words in submitted] == [True, True, False]


def test_a_run_that_loses_node_after_node_is_given_up(folder, monkeypatch):
    submitted = cluster(monkeypatch, *[NodeDied()] * (MOST_LOST + 1))
    assert train_elsewhere(folder) == 1 and len(submitted) == MOST_LOST
    status = folder.read_status()
    assert status["state"] == INTERRUPTED and f"{MOST_LOST} times" in status["message"]


@pytest.mark.parametrize(
    ("end", "code", "state", "words"),
    [
        (TaskFailed(), 1, FAILED, "no such folder"),
        (2, 2, FAILED, "exit code 2"),
        (-9, -9, QUEUED, ""),  # killed: whoever looks finds that its process is gone
    ],
    ids=["task", "refused", "killed"],
)
def test_a_node_that_cannot_begin_is_no_lost_node(folder, monkeypatch, end, code, state, words):
    assert len(cluster(monkeypatch, end)) == 0 and train_elsewhere(folder) == code
    status = folder.read_status()
    assert status["state"] == state and words in status["message"]


def test_a_run_that_waits_for_a_node_can_be_taken_out(folder, monkeypatch):
    cluster(monkeypatch, lambda: folder.request("stop"))  # it never begins
    assert train_elsewhere(folder) == 0
    status = folder.read_status()
    assert status["state"] == STOPPED and status["attempt"] == ""


def test_a_finished_run_that_is_taken_out_before_it_trains_longer_stays_finished(
    folder, monkeypatch
):
    folder.write_status(step=9, steps=9)
    cluster(monkeypatch, lambda: folder.request("stop"))
    assert train_elsewhere(folder, ["--steps", "5"]) == 0
    assert folder.read_status()["state"] == FINISHED


def test_a_run_whose_folder_is_removed_asks_for_no_node_any_more(folder, monkeypatch):
    cluster(monkeypatch, lambda: shutil.rmtree(folder.path, ignore_errors=True))
    with pytest.raises(FileNotFoundError):
        train_elsewhere(folder)


def test_what_is_asked_of_a_run_that_trains_is_left_to_its_node(folder, monkeypatch):
    def train() -> bool:
        folder.write_status(state=TRAINING)
        folder.request("stop")
        if len(looks := [*looked, 1]) < 3:
            looked[:] = looks
            return False
        folder.write_status(state=FINISHED)
        return True

    looked: list[int] = []
    cluster(monkeypatch, train)
    assert train_elsewhere(folder) == 0
    assert folder.take_request() == "stop" and folder.read_status()["state"] == FINISHED


def test_on_a_cluster_only_those_that_wait_are_waited_for(folder, monkeypatch):
    others = []
    for number, state in enumerate((TRAINING, PREPARING, QUEUED)):
        others.append(RunFolder(folder.path.parent / f"20250101-000000-00000{number}"))
        others[-1].create()
        others[-1].write_config(TINY.to_dict())
        others[-1].write_status(state=state, **process_identity())
    folder.write_status(turn=1.0)
    passed = []
    wait = lambda: passed.append(queue.wait_for_turn(folder, elsewhere=True))  # noqa: E731
    waiter = threading.Thread(target=wait)
    waiter.start()
    while "1 earlier run" not in folder.read_status().get("message", ""):
        time.sleep(0.02)
    others[-1].write_status(state=TRAINING)
    waiter.join(10)
    assert passed == [True] and not (folder.path.parent / ".turn").exists()


NODE = """
import sys, time
from keras_lm.runs import ray_queue
from keras_lm.storage.run_folder import RunFolder
ray_queue.LOOK_SECONDS = 0.05
ray_queue.join(RunFolder(sys.argv[1]), "first")
print("joined", flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("end", ["another attempt", "its parent"])
def test_a_nodes_process_ends_with_its_attempt_or_its_parent(folder, end):
    folder.write_status(attempt="first", heartbeat=0.0)
    command = [sys.executable, "-c", NODE, str(folder.path)]
    script = "import subprocess, sys; subprocess.Popen(sys.argv[1:]); sys.stdin.read()"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdin is not None and parent.stdout is not None
    assert parent.stdout.readline() == b"joined\n"
    begun = time.time()
    while folder.read_status()["heartbeat"] < begun - 60.0:
        time.sleep(0.02)
    if end == "its parent":
        parent.kill()
    else:
        folder.write_status(attempt="second")
    if end == "its parent":
        assert parent.stdout.read() == b""  # the pipe ends when both have
    else:
        parent.stdin.close()
        assert parent.stdout.read() == b""
    parent.wait()
    parent.stdout.close()


def test_an_attempt_that_is_over_is_not_joined(folder):
    folder.write_status(attempt="second")
    with pytest.raises(ConfigError, match="goes on elsewhere"):
        join(folder, "first")


def test_without_ray_a_sentence_says_so_before_a_run_starts(tmp_path, monkeypatch):
    monkeypatch.setenv(RAY_VARIABLE, "auto")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs the Python package ray, .* pip install"):
        Supervisor(tmp_path).start(TINY)
    assert not os.listdir(tmp_path)


def test_a_cluster_that_does_not_answer_is_said_at_once(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv(RAY_VARIABLE, "127.0.0.1:1")
    with pytest.raises(ConfigError, match="a Ray cluster that answers, but '127.0.0.1:1' gave"):
        train_elsewhere(folder)


def wait_until(condition) -> None:
    end = time.monotonic() + 120.0
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_run_goes_on_when_its_node_of_a_real_cluster_is_killed(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="it is in tests/requirements.txt")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv(SLOTS_VARIABLE, str(os.cpu_count()))  # one core per slot
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    supervisor = Supervisor(tmp_path / "runs")
    try:
        node = nodes.add_node(num_cpus=1, **small)
        monkeypatch.setenv(RAY_VARIABLE, nodes.address)
        run_id = supervisor.start(TINY)
        folder = supervisor.folder(run_id)
        wait_until(lambda: folder.has_checkpoint)
        before = folder.read_status()
        assert Supervisor(supervisor.root).summary(run_id).state == TRAINING
        nodes.add_node(num_cpus=1, **small)
        nodes.remove_node(node, allow_graceful=False)
        wait_until(lambda: folder.read_status()["attempt"] != before["attempt"])
        killed_at = folder.read_status()["step"]
        wait_until(lambda: folder.read_status()["step"] > killed_at)
        assert folder.read_status()["pid"] == before["pid"]  # the process that watches
        supervisor.request(run_id, "stop")
        wait_until(lambda: not supervisor.summary(run_id).is_active)
        assert supervisor.summary(run_id).state == STOPPED and folder.has_model
        steps = [event["step"] for event in folder.read_events()[0] if event["kind"] == "metrics"]
        assert steps == sorted({*steps})
    finally:
        for child in supervisor._children.values():
            child.kill()
        nodes.shutdown()
