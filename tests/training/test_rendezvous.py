"""The processes of a run wait for each other, and say for whom."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from keras_lm.settings.checks import ConfigError
from keras_lm.settings.cluster import Cluster
from keras_lm.training import rendezvous
from keras_lm.training.rendezvous import WorkerLost, wait_for_all

WAITS = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a shell's background programs ignore
from keras_lm.settings.cluster import Cluster
from keras_lm.system.signals import ending_at_once
from keras_lm.training.rendezvous import wait_for_all
with ending_at_once():
    print("waits", flush=True)
    wait_for_all(Cluster(("worker 0", "worker 1"), {addresses}, 0))
"""


@pytest.fixture
def addresses(monkeypatch):
    """Two that nobody uses."""
    monkeypatch.setattr(rendezvous, "POLL_SECONDS", 0.01)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    found = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return found


def cluster(addresses, rank=0) -> Cluster:
    return Cluster(("worker 0", "worker 1"), tuple(addresses), rank)


def test_all_go_on_when_the_last_one_is_there(addresses):
    went_on = []

    def arrive(rank):
        wait_for_all(cluster(addresses, rank), 20.0)
        went_on.append(rank)
        # TensorFlow's server answers at the same address from here on.
        with socket.create_server(("127.0.0.1", int(addresses[rank].split(":")[1]))):
            both.wait(20.0)

    both = threading.Barrier(2)
    threads = [threading.Thread(target=arrive, args=(rank,)) for rank in range(2)]
    threads[0].start()
    time.sleep(0.1)
    assert went_on == []
    threads[1].start()
    for thread in threads:
        thread.join()
    assert sorted(went_on) == [0, 1]


@pytest.mark.parametrize("other", ["", "no-such-host.invalid:4001", f"{'x' * 80}:4001"])
def test_who_does_not_start_is_named(addresses, other):
    addresses = addresses[0], other or addresses[1]
    with pytest.raises(WorkerLost) as caught:
        wait_for_all(cluster(addresses), 0.0)
    assert str(caught.value).startswith(f"Worker 1 ({addresses[1]}) did not answer within")


def test_an_address_at_which_this_process_is_not_reached_is_named_too(addresses):
    with pytest.raises(WorkerLost, match=r"Worker 0 \(bad host:"):
        wait_for_all(cluster(["bad host:" + addresses[0].split(":")[1], addresses[1]]), 0.0)


def test_a_port_in_use_is_one_sentence(addresses):
    with (
        socket.create_server(("127.0.0.1", int(addresses[0].split(":")[1]))),
        pytest.raises(ConfigError, match=r"uses the port of this process, worker 0 \(127"),
    ):
        wait_for_all(cluster(addresses), 0.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_who_waits(addresses, number):
    code = WAITS.format(addresses=addresses)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        try:
            assert process.wait(10.0) == -number
        finally:
            process.kill()


def test_who_dies_while_tensorflow_connects_them_is_named(addresses, monkeypatch):
    from keras_lm.model.backend import tf
    from keras_lm.training import distribution

    def dies():
        task = "/job:worker/replica:0/task:1"
        raise tf.errors.InternalError(None, None, f"Barrier failed: {task} heartbeat timeout.")

    monkeypatch.setattr(distribution, "wait_for_all", lambda _: None)
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", dies)
    spec = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(spec))
    with pytest.raises(WorkerLost, match=r"worker 1 \(127.*was lost: .* resume"):
        distribution.join("multi-worker")
