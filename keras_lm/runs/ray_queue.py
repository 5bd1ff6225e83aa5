"""Runs on a Ray cluster: the process that waits gives its run to a node, and watches it there.

KERAS_LM_RAY names the cluster. Order, owners and the run folder, which all nodes share, are as
without it. When its turn comes, the process of a run asks Ray for cores and memory; a node then
runs the same command line. A lost node is a run that was interrupted: it is resumed elsewhere.

The run's process is the one that watches: it holds the lock, and the status has its number, start
and host. The node's process writes everything else, a heartbeat among it. Each attempt has a token
in the status; a node's process ends as soon as it finds another one there, or its parent gone. So
no two write into a folder, even when a node that was lost still works.
"""

import contextlib
import importlib
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from keras_lm.runs.process import BEAT_SECONDS
from keras_lm.runs.queue import memory_bytes, wait_for_turn
from keras_lm.runs.slots import cores_per_slot
from keras_lm.settings.checks import ConfigError
from keras_lm.storage.run_folder import (
    ACTIVE_STATES,
    FAILED,
    INTERRUPTED,
    QUEUED,
    TAKEN_OUT,
    RunFolder,
)
from keras_lm.system.paths import PROJECT
from keras_lm.system.signals import on_ending

RAY_VARIABLE = "KERAS_LM_RAY"  # "auto" or the address of a cluster; empty: runs train here
MOST_LOST = 5  # nodes per run: it may be what kills them
LOOK_SECONDS = 1.0
KNOCK_SECONDS = 10.0
WAITS = "Waiting for a free node of the cluster."
LOST = "Its node was lost; it goes on on another one."
LOST_OFTEN = "Its node was lost {count} times. Resume it when the cluster is well."
NOT_BEGUN = (
    "The node's process ended with exit code {code} before it trained: every node needs keras_lm "
    "and the runs folder at the same paths. Its log may say more."
)


def ray_address() -> str:
    """What KERAS_LM_RAY names; "" where runs train here."""
    return os.environ.get(RAY_VARIABLE, "").strip()


def check_ray() -> None:
    """ConfigError when a cluster is named, but Ray is not installed."""
    if ray_address() and importlib.util.find_spec("ray") is None:
        raise ConfigError(
            f"{RAY_VARIABLE} needs the Python package ray, which is not installed: pip install "
            "'keras_lm[ray]', in a clone pip install '.[ray]', or unset it."
        )


def connect() -> Any:
    """The module `ray`, connected to the cluster; ConfigError where none answers."""
    check_ray()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to others
    ray = importlib.import_module("ray")
    try:
        _knock(ray_address())
        ray.init(ray_address(), log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{RAY_VARIABLE} must name a Ray cluster that answers, but {ray_address()!r:.60} gave: "
            f"{error!s:.200}. Start one with ray start --head, or unset it."
        ) from None
    return ray


def _knock(address: str) -> None:
    """OSError where nobody listens at an address, for which Ray itself waits for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def train_elsewhere(folder: RunFolder, flags: Sequence[str] = ()) -> int:
    """Waits for the run's turn and a node, and for the run's end there.

    Args:
        folder: of a run that this process has claimed; all nodes see it at the same path.
        flags: of `resume`, with which the run is trained longer.

    Returns:
        The exit code of the node's process.
    """
    if not wait_for_turn(folder, elsewhere=True):
        return _end(folder, folder.state_before_more, TAKEN_OUT)
    folder.write_status(message="Looking for the cluster.")
    ray = connect()
    on_ending(lambda: folder.request("stop"))  # Ray has put its own handlers there
    planned = num_plans(folder)
    for count in range(MOST_LOST):
        attempt = os.urandom(8).hex()
        folder.write_status(state=QUEUED, attempt=attempt, message=LOST if count else WAITS)
        words = ["--run-dir", str(folder.path.resolve()), "--attempt", attempt, *flags]
        try:
            code = _watch(ray, _submit(ray, folder, words), folder)
        except ray.exceptions.RayTaskError as error:
            return _end(folder, FAILED, f"The node could not begin: {error.cause!s:.300}", 1)
        except ray.exceptions.RayError:
            if num_plans(folder) > planned:  # by how much it is trained longer is written down
                flags = ()
            continue
        if code is None:
            return _end(folder, folder.state_before_more, TAKEN_OUT)
        if code > 0 and folder.read_status().get("state") in ACTIVE_STATES:
            _end(folder, FAILED, NOT_BEGUN.format(code=code))
        return code
    return _end(folder, INTERRUPTED, LOST_OFTEN.format(count=MOST_LOST), 1)


def num_plans(folder: RunFolder) -> int:
    """How many plans the run's events have."""
    return sum(event["kind"] == "plan" for event in folder.read_events()[0])


def _end(folder: RunFolder, state: str, message: str, code: int = 0) -> int:
    folder.write_status(state=state, message=message, attempt="")
    return code


def _submit(ray: Any, folder: RunFolder, words: list[str]) -> Any:
    """Asks Ray to go on with the run on some node; the result is the process's exit code."""
    cores, project, log = cores_per_slot(), str(PROJECT), str(folder.log_file.resolve())

    def on_node() -> int:  # inside of a function, so that Ray sends it with its code
        with open(log, "ab") as file:
            return subprocess.run(
                [sys.executable, "-m", "keras_lm", "resume", *words],
                cwd=project if os.path.isdir(project) else None,
                env=os.environ | {"TF_NUM_INTRAOP_THREADS": str(cores), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            ).returncode

    needs = {"num_cpus": cores, "memory": memory_bytes(folder) or None}
    if ray.cluster_resources().get("GPU"):
        needs["num_gpus"] = 1  # Ray hides the GPUs from who asks for none
    return ray.remote(on_node).options(**needs, max_retries=0).remote()


def _watch(ray: Any, task: Any, folder: RunFolder) -> int | None:
    """The task's result; None when a person stopped the run before a node began.

    Raises:
        ray.exceptions.RayError: when the node is lost.
    """
    beaten = time.monotonic()
    while not ray.wait([task], timeout=LOOK_SECONDS)[0]:
        is_gone = not folder.path.is_dir()
        if folder.read_status().get("state") != QUEUED and not is_gone:
            continue  # the node's process writes and listens
        if is_gone or folder.take_request() in ("stop", "pause"):
            ray.cancel(task, force=True)
            return None
        if time.monotonic() - beaten > BEAT_SECONDS:
            folder.write_status()
            beaten = time.monotonic()
    return ray.get(task)


def join(folder: RunFolder, attempt: str) -> None:
    """Makes this the node's process of a run: it beats, and ends with its attempt or its parent.

    Raises:
        ConfigError: when the run has another attempt by now.
    """
    if folder.read_status().get("attempt") != attempt:
        raise ConfigError(f"The run in {folder.path} goes on elsewhere.")
    watcher = threading.Thread(target=_beat, args=(folder, attempt, os.getppid()), daemon=True)
    watcher.start()


def _beat(folder: RunFolder, attempt: str, parent: int) -> None:
    beaten = 0.0
    while os.getppid() == parent and folder.read_status().get("attempt", attempt) == attempt:
        if time.monotonic() - beaten > BEAT_SECONDS:
            with contextlib.suppress(OSError):  # a full disk: training itself says so
                folder.write_status()
            beaten = time.monotonic()
        time.sleep(LOOK_SECONDS)
    os._exit(1)  # at once: another process may go on with the run already
