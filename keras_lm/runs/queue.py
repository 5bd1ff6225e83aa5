"""The queue of runs: a run that waits is a small process that watches those before it.

Nobody has to hand out turns, so a killed server stops no queue. The folders
say who is next. That only one trains is ensured by a lock on a file beside the runs, which the
operating system ends with the process that has it, however that ends.
"""

import time

from keras_lm.runs.process import hold, is_alive
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder, list_runs

POLL_SECONDS = 0.5
TURN_FILE = ".turn"


def position(folder: RunFolder) -> tuple[float, str] | None:
    """A run's position in the queue, by time and id; None when it neither waits nor trains."""
    status = folder.read_status()
    if status.get("state") not in run_folder.ACTIVE_STATES or not is_alive(folder):
        return None
    return status.get("queued_at", 0.0), folder.run_id


def runs_ahead(folder: RunFolder, others: list[RunFolder] | None = None) -> list[RunFolder]:
    """The living runs whose turn comes before that of `folder`.

    Args:
        folder: the run that asks.
        others: where to look; None or empty: at all runs beside it.
    """
    own = (folder.read_status().get("queued_at", 0.0), folder.run_id)
    positions = {other: position(other) for other in others or list_runs(folder.path.parent)}
    return [other for other, theirs in positions.items() if theirs is not None and theirs < own]


def wait_for_turn(folder: RunFolder) -> bool:
    """Waits; true when it is the run's turn, false when it was asked to stop before."""
    ahead: list[RunFolder] = []
    while True:
        ahead = runs_ahead(folder, ahead) or runs_ahead(folder)  # only rarely must all be looked at
        if not ahead and hold(folder.path.parent / TURN_FILE):
            return True
        if folder.take_request() in ("stop", "pause"):
            return False
        earlier = f"{len(ahead)} earlier run{'s' if len(ahead) > 1 else ''}"
        message = f"Waiting for {earlier if ahead else 'the run that trains'}."
        if folder.read_status().get("message") != message:
            folder.write_status(message=message)
        time.sleep(POLL_SECONDS)
