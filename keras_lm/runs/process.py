"""Is the process that a run folder names still that process? And who holds what alone."""

import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO

import psutil

from keras_lm.run_folder import RunFolder

START_SECONDS = 30.0  # a process that has not yet written its number may still be starting
CLAIM_SECONDS = 2.0  # so long another's look at the lock never lasts

_held: list[BinaryIO] = []  # locked files, open for as long as this process lives


def process_identity() -> dict:
    """What tells this process from a later one with the same number."""
    return {"pid": os.getpid(), "pid_started": psutil.Process().create_time()}


def hold(path: Path) -> bool:
    """Locks the file for the rest of this process's life; false while another process holds it.

    The system ends the lock with the process, however that ends.
    """
    file = open(path, "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return False
    _held.append(file)
    return True


def claim(folder: RunFolder) -> bool:
    """Makes the run this process's own; false when another process has it."""
    end = time.monotonic() + CLAIM_SECONDS
    while not hold(folder.lock_file):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def is_claimed(folder: RunFolder) -> bool:
    """Whether a living process has claimed the run."""
    try:
        with open(folder.lock_file, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such file yet
        return False
    return False


def is_alive(folder: RunFolder) -> bool:
    """Whether the run's process lives: it holds the run, or has its number and start.

    The number alone would not do, for the system gives it again; nor the start alone, which moves
    when the clock is set.
    """
    if is_claimed(folder):
        return True
    status = folder.read_status()
    if status.get("pid") is None:
        return time.time() - status.get("heartbeat", 0.0) < START_SECONDS
    try:
        process = psutil.Process(status["pid"])
        same = abs(process.create_time() - status["pid_started"]) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (KeyError, TypeError, ValueError, psutil.Error):
        return False
