"""Slots: how many runs of a folder train at once, and which cores each of them uses.

A slot is a lock on a file beside the runs. The system ends it with the process that has it, however
that ends, so that no slot is ever lost.
"""

import os
from pathlib import Path

import psutil

from keras_lm.runs.process import hold
from keras_lm.settings.checks import ConfigError
from keras_lm.system.machine import num_cores, total_memory

SLOTS_VARIABLE = "KERAS_LM_SLOTS"  # another number than one slot per two cores
CORES_PER_SLOT = 2
TURN_FILE = ".turn"  # of the first slot; those of the others have its number behind that
BUSY_SECONDS = 0.1  # in which the cores are watched


def chosen_slots() -> int | None:
    """The number that KERAS_LM_SLOTS names, None where it names none; else ConfigError."""
    words = os.environ.get(SLOTS_VARIABLE, "").strip()
    if not words:
        return None
    if not words.isdecimal() or int(words) < 1:
        raise ConfigError(
            f"{SLOTS_VARIABLE} must be a whole number from 1, but got {words!r:.40}: correct it or "
            "unset it."
        )
    return int(words)


def usual_slots(cores: int, memory: int, largest: int = 0) -> int:
    """One slot per two cores, at least one, and not more than memory holds.

    Args:
        cores: of the machine.
        memory: of the machine, in bytes.
        largest: bytes that the largest run needs; 0: unknown.

    Example:
        >>> usual_slots(8, 2**34), usual_slots(8, 2**34, 6 * 2**30), usual_slots(1, 2**34)
        (4, 2, 1)
    """
    slots = cores // CORES_PER_SLOT
    return max(1, min(slots, memory // largest) if largest else slots)


def num_slots(largest: int = 0) -> int:
    """How many runs train at once here; `largest` as above. ConfigError as in `chosen_slots`."""
    return chosen_slots() or usual_slots(num_cores(), total_memory(), largest)


def cores_per_slot() -> int:
    """How many cores the smallest slot has."""
    return max(1, num_cores() // num_slots())


def shares(cores: list[int], slots: int) -> list[list[int]]:
    """The cores of each slot; with more slots than cores some have the same one.

    Example:
        >>> shares([0, 1, 2, 3, 4], 2), shares([0, 1], 3)
        ([[0, 1], [2, 3, 4]], [[0], [1], [0]])
    """
    count = len(cores)
    if slots > count:
        return [[cores[slot % count]] for slot in range(slots)]
    return [cores[slot * count // slots : (slot + 1) * count // slots] for slot in range(slots)]


def take_slot(root: Path, slots: int) -> bool:
    """Makes a slot and its cores this process's own; false while others have all of them.

    Args:
        root: the folder of the runs.
        slots: how many there are. The only one has all cores.
    """
    if slots == 1:
        return hold(root / TURN_FILE)
    cores = shares(_cores(), slots)
    # By the runs of another folder, too. A container may not show all that it may use.
    busy = dict(enumerate(psutil.cpu_percent(BUSY_SECONDS, percpu=True)))
    for slot in sorted(range(slots), key=lambda slot: sum(busy.get(c, 0.0) for c in cores[slot])):
        if hold(root / f"{TURN_FILE}-{slot}" if slot else root / TURN_FILE):
            _keep_to(cores[slot])
            return True
    return False


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return sorted(os.sched_getaffinity(0))
    return [*range(num_cores())]


def _keep_to(cores: list[int]) -> None:
    """Lets what this process starts from now on use these cores alone, or as many threads."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    else:
        os.environ["TF_NUM_INTRAOP_THREADS"] = str(len(cores))
