"""Whether the process that a run folder names still lives, and the locks of runs."""

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

import psutil

from keras_lm.storage.files import append_plain, open_plain
from keras_lm.storage.run_folder import ACTIVE_STATES, RunFolder

START_SECONDS = 30.0  # a process that has not yet written its number may still be starting
# On another machine a process's number says nothing. Who is seen from there beats.
BEAT_SECONDS, DEAD_SECONDS = 10.0, 60.0
CLAIM_SECONDS = 2.0  # longer than another process looks at the lock
# The errors of a lock that another process has.
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)

_held: list[IO[bytes]] = []  # locked files, open for as long as this process lives


def process_identity() -> dict:
    """What distinguishes this process from a later one with the same number, and its machine."""
    started = psutil.Process().create_time()
    return {"pid": os.getpid(), "pid_started": started, "host": socket.gethostname()}


def hold(path: Path) -> bool:
    """Locks the file for the rest of this process's life; false while another process holds it.

    The system ends the lock with the process, however that ends. On a file system without locks
    every process gets it.
    """
    file = append_plain(path)
    if _is_locked(file, fcntl.LOCK_EX):
        file.close()
        return False
    _held.append(file)
    return True


def _is_locked(file: IO[bytes], lock: int) -> bool:
    """Takes a lock on the file; whether another process keeps it from doing so."""
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
    except OSError as error:  # some file systems have no locks
        return error.errno in HELD
    return False


def claim(folder: RunFolder) -> bool:
    """Makes the run this process's own; false when another process has it."""
    end = time.monotonic() + CLAIM_SECONDS
    while not hold(folder.lock_file):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    status = folder.read_status()  # all there is to go by where there are no locks
    is_own = status.get("pid") == os.getpid() and _is_here(status)
    names_one = "pid" in status and status.get("state") in ACTIVE_STATES
    return is_own or not names_one or not _lives(status)


def is_claimed(folder: RunFolder) -> bool:
    """Whether a living process has claimed the run."""
    try:
        with open_plain(folder.lock_file) as file:
            return _is_locked(file, fcntl.LOCK_SH)
    except OSError:  # there is no such file yet
        return False


def is_alive(folder: RunFolder) -> bool:
    """Whether the run's process lives: it holds the run, or has its number and start.

    The number alone would not do, for the system gives it again; nor the start alone, which moves
    when the clock is set. A process of another `host` lives until its status has had no heartbeat
    for DEAD_SECONDS.
    """
    if is_claimed(folder):
        return True
    status = folder.read_status()
    if "pid" not in status:
        return abs(time.time() - status.get("heartbeat", 0.0)) < START_SECONDS
    return _lives(status)


def _is_here(status: dict) -> bool:
    """Whether the status is of a process of this machine; earlier versions name none."""
    return status.get("host", socket.gethostname()) == socket.gethostname()


def _lives(status: dict) -> bool:
    """Whether there is a process with the status' number and start; elsewhere, a heartbeat."""
    if not _is_here(status):
        return abs(time.time() - status.get("heartbeat", 0.0)) < DEAD_SECONDS
    try:
        process = psutil.Process(status["pid"])
        same = abs(process.create_time() - status["pid_started"]) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (KeyError, psutil.Error):
        return False
