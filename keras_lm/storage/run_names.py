"""How runs are named, and which a folder has."""

import os
import re
import time
from pathlib import Path

from keras_lm.storage.run_folder import RunFolder

_MADE_HERE = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
_RUN_ID = re.compile(r"\w[\w .-]{0,99}")  # no path has this form


def new_run_id() -> str:
    """An id that sorts by time and is a safe folder name, such as 20260131-093000-1f2e3d."""
    return time.strftime("%Y%m%d-%H%M%S-") + os.urandom(3).hex()


def is_run_id(name: str) -> bool:
    """Whether a run's folder may have this name: one that is made here, or a person's own.

    Example:
        >>> is_run_id(new_run_id()), is_run_id("mine"), is_run_id("../mine"), is_run_id(".mine")
        (True, True, False, False)
    """
    return _RUN_ID.fullmatch(name) is not None


def list_runs(root: Path) -> list[RunFolder]:
    """The runs below `root`, newest first."""
    try:
        names = [*filter(is_run_id, os.listdir(root))]
    except OSError:
        return []
    begun = {name: _begun(RunFolder(root / name)) for name in names}
    found = sorted((when, name) for name, when in begun.items() if when)
    return [RunFolder(root / name) for _, name in reversed(found)]


def _begun(folder: RunFolder) -> str:
    """When a run was made, as an id begins; empty for what is no run."""
    if _MADE_HERE.fullmatch(folder.run_id):
        return folder.run_id if os.path.isdir(folder.path) else ""
    if not os.path.isdir(folder.path) or not folder.is_made_here:
        return ""
    oldest = folder.config_file if folder.config_file.exists() else folder.path
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(os.path.getmtime(oldest)))
