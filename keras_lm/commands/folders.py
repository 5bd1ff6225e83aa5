"""The folders and files that a command names: a run's, a new one's, and what it writes."""

import time
from pathlib import Path

from keras_lm.runs.process import claim
from keras_lm.settings.config import ConfigError, RunConfig
from keras_lm.storage import files
from keras_lm.storage.belongings import other_names
from keras_lm.storage.run_folder import RunFolder

LEFTOVER_SECONDS = 60.0  # no file takes longer to write


def check_holds_nothing(folder: RunFolder) -> None:
    """ConfigError unless a new run can be made there."""
    lock = [folder.lock_file.name] if folder.lock_is_own else []
    if found := other_names(folder.path, lock):
        raise ConfigError(
            f"--run-dir must name a new or an empty folder, but {folder.path} holds "
            f"{found[0]!r:.60}: choose another name."
        )


def claim_alone(folder: RunFolder) -> None:
    """Makes the run this process's own; ConfigError, and nothing written, when another has it."""
    if not claim(folder):
        raise ConfigError(f"The run in {folder.path} is still active; stop it first.")


def existing_run(path: Path, flag: str = "--run-dir") -> RunFolder:
    """The run folder at `path`, which `flag` named; ConfigError when there is none."""
    folder = RunFolder(path)
    if not folder.holds_run:
        if folder.is_made_here:
            read_config(folder)  # which says what is wrong with it
        raise ConfigError(f"{flag} must name a run's folder, but {path} holds no run.")
    return folder


def existing_file(path: Path) -> None:
    """ConfigError unless `path` is a file."""
    if not path.is_file():
        raise ConfigError(f"Expected a .keras file, but there is no file {path}: check its name.")


def read_config(folder: RunFolder) -> RunConfig:
    """The run's config."""
    return RunConfig.from_dict(folder.read_config())


def write_out(path: Path, content: Path | bytes) -> None:
    """Writes the file that `--out` names, whole or not at all; ConfigError when the disk refuses.

    Args:
        path: the file.
        content: what it shall hold, or the file that does.
    """
    try:
        files.remove_leftovers(path.parent, before=time.time() - LEFTOVER_SECONDS)
        content = content if isinstance(content, bytes) else content.read_bytes()
        files.write_atomically(path, content)
    except OSError as error:
        raise ConfigError(f"--out {path} cannot be written: {error.strerror}.") from None
