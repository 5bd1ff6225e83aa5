"""Checkpoints to resume from: every variable of a run, written so that no crash loses one.

A checkpoint is written into a temporary folder, file by file to the disk, its manifest with their
SHA-256 last; then the folder is renamed. The newest one that its manifest verifies counts.
"""

import contextlib
import json
import math
import os
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_lm.keras_file.opening import ModelFileError
from keras_lm.storage.files import (
    flush_folder,
    open_plain,
    partial_path,
    read_json,
    sha256,
    write_atomically,
)
from keras_lm.storage.run_folder import MANIFEST_FILE, POSITION_FILE, STATE_FILE, remove_checkpoint

KEPT_CHECKPOINTS = 3  # the newest; and the one with the lowest validation loss
MOST_POSITION_BYTES = 256 * 2**20  # the values of a million updates without an event


class Checkpoint(NamedTuple):
    """A checkpoint as it was saved.

    Attributes:
        step: updates made.
        arrays: of the variables.
        position: the rest of the run's state.
    """

    step: int
    arrays: list[np.ndarray]
    position: dict


def save_checkpoint(folder: Path, step: int, variables: list, position: dict) -> Path:
    """Writes one checkpoint, whole or not at all; then removes all but the newest and the best.

    Args:
        folder: the run's `checkpoints` folder.
        step: updates made.
        variables: every variable of model and optimizer, seeds included, in a fixed order.
        position: JSON object with the rest of the run's state; the best has the lowest "val_loss".

    Returns:
        The checkpoint's folder, `step-00000500`. A sound one that is there already is the same
        and stays, for replacing it would leave a moment without it.

    Raises:
        OSError: when the disk refuses; older checkpoints are intact.
    """
    if not folder.exists():
        folder.mkdir()
        flush_folder(folder.parent)
    target = folder / f"step-{step:08d}"
    if _read(target) is not None:
        return target
    temporary = partial_path(folder)
    try:
        temporary.mkdir()
        _write_state(temporary / STATE_FILE, variables)
        content = json.dumps({"step": step, "position": position}).encode()
        write_atomically(temporary / POSITION_FILE, content)
        digests = {name: sha256(temporary / name) for name in (STATE_FILE, POSITION_FILE)}
        write_atomically(temporary / MANIFEST_FILE, json.dumps({"sha256": digests}).encode())
        flush_folder(temporary)
        remove_checkpoint(target)  # a damaged one
        os.replace(temporary, target)
        flush_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _remove_old(folder, target)
    return target


def _write_state(path: Path, variables: list) -> None:
    """Writes what `np.savez` would, one array at a time: there is no room for a copy of all."""
    with open(path, "xb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for index, variable in enumerate(variables):
                with archive.open(f"arr_{index}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(variable), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _remove_old(folder: Path, newest: Path) -> None:
    """Keeps the newest KEPT_CHECKPOINTS and the best; those of later steps were damaged."""
    paths = [path for path in _paths(folder) if path <= newest]
    best = min(paths, key=lambda path: (_val_loss(path), path))
    kept = {*paths[-KEPT_CHECKPOINTS:], *([best] if _val_loss(best) < math.inf else [])}
    for path in _paths(folder):
        if path not in kept:
            with contextlib.suppress(OSError):
                remove_checkpoint(path)


def _paths(folder: Path) -> list[Path]:
    """The checkpoints' folders, sound or not, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.name[5:].isdecimal())


def _val_loss(path: Path) -> float:
    try:
        position = read_json(path / POSITION_FILE, MOST_POSITION_BYTES)["position"]
        return float(position["val_loss"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return math.inf


def latest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[int]]:
    """The newest checkpoint that its manifest verifies, and the steps of newer, damaged ones."""
    damaged = []
    for path in reversed(_paths(folder)):
        found = _read(path)
        if found is not None:
            return found, damaged
        damaged.append(int(path.name[5:]))
    return None, damaged


def _read(path: Path) -> Checkpoint | None:
    """The checkpoint in a folder, or None unless every byte is as it was written."""
    try:
        manifest = read_json(path / MANIFEST_FILE, MOST_POSITION_BYTES)
        in_manifest = "position" in manifest  # where earlier versions kept it
        names = (STATE_FILE,) if in_manifest else (STATE_FILE, POSITION_FILE)
        if any(sha256(path / name) != manifest["sha256"][name] for name in names):
            return None
        position_file = path / (MANIFEST_FILE if in_manifest else POSITION_FILE)
        stored = read_json(position_file, MOST_POSITION_BYTES)
        step, position = int(stored["step"]), stored["position"]
        with open_plain(path / STATE_FILE) as file, np.load(file, allow_pickle=False) as arrays:
            return Checkpoint(step, [arrays[name] for name in arrays.files], position)
    except (OSError, KeyError, TypeError, ValueError, OverflowError, zipfile.BadZipFile):
        return None


def restore(variables: list, arrays: list[np.ndarray]) -> None:
    """Assigns a checkpoint's arrays to the variables they were taken from.

    Raises:
        ModelFileError: when they are not those of these variables.
    """
    if [tuple(variable.shape) for variable in variables] != [array.shape for array in arrays]:
        raise ModelFileError("The checkpoint belongs to a model of another shape.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
