"""The queue of runs: a run that waits is a small process that watches those before it.

Nobody has to hand out turns, so a killed server stops no queue.
"""

import time

from keras_lm import run_folder
from keras_lm.run_folder import RunFolder, list_runs
from keras_lm.runs.process import is_alive

POLL_SECONDS = 0.3


def runs_ahead(folder: RunFolder) -> list[RunFolder]:
    """The living runs beside `folder` whose turn comes before its own, newest first."""
    own_place = (folder.read_status().get("queued_at", 0.0), folder.run_id)
    ahead = []
    for other in list_runs(folder.path.parent):
        status = other.read_status()
        place = (status.get("queued_at", 0.0), other.run_id)
        if status.get("state") in run_folder.ACTIVE_STATES and place < own_place:
            if is_alive(other):
                ahead.append(other)
    return ahead


def wait_for_turn(folder: RunFolder) -> bool:
    """Returns true when no run is ahead, false when the run was asked to stop before."""
    while ahead := runs_ahead(folder):
        if folder.take_request() == "stop":
            return False
        message = f"Waiting for {len(ahead)} earlier run{'s' if len(ahead) > 1 else ''}."
        if folder.read_status().get("message") != message:
            folder.write_status(message=message)
        time.sleep(POLL_SECONDS)
    return True
