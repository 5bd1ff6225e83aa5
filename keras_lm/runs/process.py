"""Is the process that a run folder names still that process?"""

import os
import time

import psutil

from keras_lm.run_folder import RunFolder

START_SECONDS = 15.0  # a process that has not yet written its number may still be starting


def process_identity() -> dict:
    """What tells this process from a later one with the same number."""
    return {"pid": os.getpid(), "pid_started": psutil.Process().create_time()}


def is_alive(folder: RunFolder) -> bool:
    """Whether the run's process lives: same number, same start, not a zombie."""
    status = folder.read_status()
    if status.get("pid") is None:
        return time.time() - status.get("heartbeat", 0.0) < START_SECONDS
    try:
        process = psutil.Process(status["pid"])
        same = abs(process.create_time() - status["pid_started"]) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (KeyError, TypeError, ValueError, psutil.Error):
        return False
