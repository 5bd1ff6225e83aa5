"""The queue of runs: a run that waits is a small process that watches those before it.

Nobody has to hand out turns, so a killed server stops no queue. The folders
say who is next. That only so many train as there are slots is ensured by locks on files beside the
runs (`keras_lm/runs/slots.py`).

Owners take turns: a race is one, a tab of a browser another. A run's `turn` is one more than that
of its owner's last run; the first of an owner who has none here begins with the turn that is
served now. So who has one run waits for one run of each other owner at most (start-time fair
queueing, Goyal, Vin and Cheng, 1996).
"""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from keras_lm.runs.process import is_alive
from keras_lm.runs.slots import num_slots, take_slot
from keras_lm.settings import estimates
from keras_lm.settings.config import RunConfig
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import MOVES, QUEUED, RunFolder
from keras_lm.storage.run_names import list_runs

POLL_SECONDS = 0.5
LOOK_SECONDS = 10.0  # after which all runs are looked at again, whatever those before do


class Position(NamedTuple):
    """What sorts runs that wait: the owner's turn, then when they were queued, then the id."""

    turn: float
    queued_at: float
    run_id: str


def position(run_id: str, status: dict) -> Position:
    """A run's position by its status.

    Example:
        >>> position("mine", {"turn": 2.0, "queued_at": 7.5})
        Position(turn=2.0, queued_at=7.5, run_id='mine')
    """
    return Position(status.get("turn", 0.0), status.get("queued_at", 0.0), run_id)


def active_runs(folders: Iterable[RunFolder]) -> dict[str, dict]:
    """The status of each living run that waits or trains, by id."""
    statuses = {folder: folder.read_status() for folder in folders}
    return {
        folder.run_id: status
        for folder, status in statuses.items()
        if status.get("state") in run_folder.ACTIVE_STATES and is_alive(folder)
    }


def waiting(active: dict[str, dict]) -> list[Position]:
    """The positions of those that wait, the next one first."""
    queued = ((run_id, s) for run_id, s in active.items() if s.get("state") == QUEUED)
    return sorted(position(run_id, status) for run_id, status in queued)


def ahead_of(own: Position, active: dict[str, dict]) -> list[str]:
    """The ids of the runs that train, and of those that wait and come before that position."""
    earlier = {theirs.run_id for theirs in waiting(active) if theirs < own}
    return [
        run_id
        for run_id, status in active.items()
        if run_id != own.run_id and (run_id in earlier or status.get("state") != QUEUED)
    ]


def runs_ahead(folder: RunFolder) -> list[RunFolder]:
    """The living runs beside `folder` that train, or whose turn comes before its own."""
    root = folder.path.parent
    ahead = ahead_of(position(folder.run_id, folder.read_status()), active_runs(list_runs(root)))
    return [RunFolder(root / run_id) for run_id in ahead]


def enqueued(active: dict[str, dict], owner: str = "") -> dict[str, Any]:
    """What the status of a run says that is queued now.

    Args:
        active: the other runs, as `active_runs` gives them.
        owner: whose it is; "" is the command line.

    Example:
        >>> race = {str(n): {"state": "queued", "turn": n, "owner": "race"} for n in range(3, 9)}
        >>> enqueued(race, "race")["turn"], enqueued(race, "somebody else")["turn"]
        (9, 3)
    """
    served = [s.get("turn", 0.0) for s in active.values() if s.get("state") != QUEUED]
    next_turns = [max(served)] if served else []
    if queued := waiting(active):
        next_turns.append(queued[0].turn)
    own = [s.get("turn", 0.0) + 1 for s in active.values() if s.get("owner", "") == owner]
    turn = max([min(next_turns, default=0.0), *own])
    return {"queued_at": time.time(), "turn": turn, "owner": owner}


def first_position(folder: RunFolder) -> dict[str, Any]:
    """What `enqueued` says of a run; nothing where its status says that it is queued already."""
    if folder.read_status().get("state") == QUEUED:
        return {}
    return enqueued(active_runs(list_runs(folder.path.parent)))


def move(folder: RunFolder, request: str) -> None:
    """Changes a waiting run's own position as one of MOVES asks."""
    own = position(folder.run_id, folder.read_status())
    found = waiting(active_runs(list_runs(folder.path.parent)))
    others = [theirs for theirs in found if theirs.run_id != own.run_id]
    index = sum(theirs < own for theirs in others)
    target = {"front": 0, "up": index - 1, "down": index + 1}[request]
    if target != index and 0 <= target <= len(others):
        before, after = ([None, *others, None][target + end] for end in (0, 1))
        turn, queued_at = _between(before, after)
        folder.write_status(turn=turn, queued_at=queued_at)


def _between(before: Position | None, after: Position | None) -> tuple[float, float]:
    """A turn and a time between two neighbors, of which one may be missing."""
    if before is not None and after is not None and before.turn == after.turn:
        return after.turn, (before.queued_at + after.queued_at) / 2
    if after is not None:
        return after.turn, max(0.0, after.queued_at - 1.0)
    return (before.turn, before.queued_at + 1.0) if before else (0.0, 0.0)


def slots_for(folders: Iterable[RunFolder]) -> int:
    """How many of these runs train at once, the largest one among them."""
    if num_slots() == 1:
        return 1
    return num_slots(max(map(memory_bytes, folders), default=0))


def memory_bytes(folder: RunFolder) -> int:
    """What a run is estimated to need; 0 where its config cannot be read."""
    try:
        return estimates.memory_bytes(RunConfig.from_dict(folder.read_config()))
    except ValueError:  # it will say so when it is its turn
        return 0


def wait_for_turn(folder: RunFolder, elsewhere: bool = False) -> bool:
    """Waits; true when it is the run's turn, false when it was asked to stop before.

    Then one of the slots and its cores are this process's own. A run whose folder is removed
    while it waits ends.

    Args:
        folder: of the run.
        elsewhere: it needs no slot here, but only to be the next one.
    """
    ahead: list[RunFolder] = []
    slots, looked = 0, float("-inf")
    while folder.path.is_dir():
        ahead = _still_ahead(ahead, elsewhere)
        # Only rarely must all be looked at.
        if len(ahead) < slots or time.monotonic() - looked > LOOK_SECONDS:
            ahead, looked = _still_ahead(runs_ahead(folder), elsewhere), time.monotonic()
            slots = 1 if elsewhere else slots_for([folder, *ahead])
            if len(ahead) < slots and (elsewhere or take_slot(folder.path.parent, slots)):
                return True
            if elsewhere:
                folder.write_status()  # a heartbeat for other machines
        request = folder.take_request()
        if request in ("stop", "pause"):
            return False
        if request in MOVES:
            move(folder, request)
            looked = float("-inf")
            continue
        message = f"Waiting for {_in_words(len(ahead) - slots + 1)}."
        if folder.read_status().get("message") != message:
            folder.write_status(message=message)
        time.sleep(POLL_SECONDS)
    return False


def _still_ahead(ahead: list[RunFolder], elsewhere: bool) -> list[RunFolder]:
    """Those that still wait or train; for a run that needs no slot here, those that wait."""
    found = ((run, active_runs([run])) for run in ahead)
    return [run for run, active in found if (waiting(active) if elsewhere else active)]


def _in_words(ends: int) -> str:
    """How many runs must end before another one begins."""
    return f"{ends} earlier run{'s' if ends > 1 else ''}" if ends > 0 else "the run that trains"
