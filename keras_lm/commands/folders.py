"""The folders that a command names: one that holds a run, or one that can hold a new one."""

from pathlib import Path

from keras_lm.settings.config import ConfigError, RunConfig
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder


def check_holds_nothing(folder: RunFolder) -> None:
    """ConfigError unless a new run can be made there."""
    if found := run_folder.other_names(folder.path, [folder.lock_file.name]):
        raise ConfigError(
            f"--run-dir must name a new or an empty folder, but {folder.path} holds "
            f"{found[0]!r:.60}: choose another name."
        )


def existing_run(path: Path) -> RunFolder:
    """The run folder at `path`; ConfigError when there is none."""
    folder = RunFolder(path)
    if not folder.holds_run:
        if folder.is_made_here:
            read_config(folder)  # which says what is wrong with it
        raise ConfigError(f"--run-dir must name a run's folder, but {path} holds no run.")
    return folder


def read_config(folder: RunFolder) -> RunConfig:
    """The run's config."""
    return RunConfig.from_dict(folder.read_config())
