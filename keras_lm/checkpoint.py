"""Checkpoints to resume from: every variable of a run, written so that no crash loses one.

A checkpoint is written into a temporary folder, flushed, its manifest with a SHA-256 last, and the
folder renamed. The newest one that its manifest verifies counts.
"""

import hashlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from keras_lm.model_file import ModelFileError
from keras_lm.run_folder import read_json, write_atomically

STATE_FILE, MANIFEST_FILE = "state.npz", "MANIFEST.json"
KEPT_CHECKPOINTS = 3


def save_checkpoint(folder: Path, step: int, variables: list, position: dict) -> Path:
    """Writes one checkpoint, whole or not at all, and removes the oldest beyond KEPT_CHECKPOINTS.

    Args:
        folder: the run's `checkpoints` folder.
        step: updates made.
        variables: every Keras variable of model and optimizer, seeds included, in a fixed order.
        position: JSON object with the rest of the run's state.

    Returns:
        The checkpoint's folder, `step-00000500`.

    Raises:
        OSError: when the disk refuses; older checkpoints are intact.
    """
    folder.mkdir(exist_ok=True)
    target = folder / f"step-{step:08d}"
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        content = io.BytesIO()
        np.savez(content, *(np.asarray(variable) for variable in variables))
        state = content.getbuffer()
        digest = hashlib.sha256(state).hexdigest()
        write_atomically(temporary / STATE_FILE, state)
        manifest = {"step": step, "position": position, "sha256": {STATE_FILE: digest}}
        write_atomically(temporary / MANIFEST_FILE, json.dumps(manifest).encode())
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        _flush_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def latest_checkpoint(folder: Path) -> tuple[int, list[np.ndarray], dict] | None:
    """Step, arrays and position of the newest checkpoint whose bytes match its manifest."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        manifest = read_json(path / MANIFEST_FILE)
        try:
            content = (path / STATE_FILE).read_bytes()
            sound = hashlib.sha256(content).hexdigest() == manifest["sha256"][STATE_FILE]
            step, position = int(manifest["step"]), manifest["position"]
        except (OSError, KeyError, TypeError, ValueError):
            continue
        if sound:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return step, [arrays[name] for name in arrays.files], position
    return None


def restore(variables: list, arrays: list[np.ndarray]) -> None:
    """Assigns a checkpoint's arrays to the variables they were taken from.

    Raises:
        ModelFileError: when they are not those of these variables.
    """
    if [variable.shape for variable in variables] != [array.shape for array in arrays]:
        raise ModelFileError("The checkpoint belongs to a model of another shape.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
