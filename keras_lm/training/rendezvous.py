"""Waits until all processes of a run are there, before TensorFlow waits for them.

It would wait for an hour, hold signals back meanwhile, and not say for which of them.
"""

import contextlib
import socket
import time

from keras_lm.settings.checks import ConfigError
from keras_lm.settings.cluster import VARIABLE, Cluster

START_SECONDS = 3600.0  # the machines may take so much longer or shorter to read a large text
POLL_SECONDS = 0.5
CONNECT_SECONDS = 5.0
IN_USE = (
    "Another program uses the port of this process, {own}: end it, or give another port in "
    f"{VARIABLE} to all."
)
NOT_STARTED = (
    "{worker} did not answer within {minutes:.0f} minutes: start the same command there, with its "
    f"own {VARIABLE}, in which its address must be one that all others reach."
)


class WorkerLost(RuntimeError):
    """Another process of the run has ended or does not answer; the message says which."""


def wait_for_all(cluster: Cluster, seconds: float = START_SECONDS) -> None:
    """Waits until every process of a run answers at its address, this one included.

    Args:
        cluster: the processes.
        seconds: how long at most.

    Raises:
        ConfigError: when another program has this process's port.
        WorkerLost: when one of them does not answer in time.
    """
    end = time.monotonic() + seconds
    with _open_port(cluster) as server:
        while (missing := _first_missing(cluster)) is not None:
            if time.monotonic() > end:
                worker = cluster.describe(missing).capitalize()
                raise WorkerLost(NOT_STARTED.format(worker=worker, minutes=seconds / 60))
            time.sleep(POLL_SECONDS)
            with contextlib.suppress(BlockingIOError):
                while True:  # room for those who ask next
                    server.accept()[0].close()


def _open_port(cluster: Cluster) -> socket.socket:
    """This process's port, at which the others look whether it is there."""
    own = cluster.describe(cluster.rank)
    port = int(cluster.addresses[cluster.rank].rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError:
        raise ConfigError(IN_USE.format(own=own)) from None
    server.setblocking(False)
    return server


def _first_missing(cluster: Cluster) -> int | None:
    """The rank of the first process that does not answer; None: all of them do."""
    ranks = range(len(cluster.addresses))
    return next((rank for rank in ranks if not _answers(cluster.addresses[rank])), None)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, UnicodeError):  # the latter where it can be no name of a machine
        return False
    return True
