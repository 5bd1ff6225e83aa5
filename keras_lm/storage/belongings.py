"""What this program made in a folder and what others did: listed, and removed. Standard library."""

import os
from collections.abc import Iterable
from pathlib import Path

from keras_lm.storage.files import PARTIAL, remove_partial


def other_names(folder: Path, names: Iterable[str]) -> list[str]:
    """What `folder` holds beside `names` and what is still being written, sorted."""
    entries = os.listdir(folder) if folder.is_dir() else []
    return sorted(e for e in entries if e not in names and not e.startswith(PARTIAL))


def remove_made_here(folder: Path, names: Iterable[str]) -> None:
    """Removes the files `names` from `folder`, and the folder unless it holds something else.

    Links are never followed, and a folder with such a name goes only if it is empty. OSError when
    the disk refuses.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        remove_partial(path)
    for path in (folder / name for name in names):
        if path.is_dir() and not path.is_symlink():
            if not os.listdir(path):
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
    if not os.listdir(folder):
        folder.rmdir()
