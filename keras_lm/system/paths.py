"""Where things are: the project, and the folders that environment variables may name."""

import errno
import os
from pathlib import Path

import pooch

PACKAGE = Path(__file__).resolve().parents[1]
PROJECT = PACKAGE.parent  # processes start here, since it holds the package: clone or installation
# What stands beside the package in a clone is inside of it in an installation (pyproject.toml).
SHIPPED = PACKAGE / "shipped"
IS_INSTALLED = SHIPPED.is_dir()
HOME = SHIPPED if IS_INSTALLED else PROJECT
DATA_FOLDER = HOME / "data"  # of the built-in texts
PAGE_SCRIPT = HOME / "streamlit_app.py"  # Streamlit finds `.streamlit/config.toml` beside it
CACHE_VARIABLE = "KERAS_LM_CACHE"  # another folder than the system's usual one for caches
RUNS_VARIABLE = "KERAS_LM_RUNS"  # another folder for the page's runs than `runs/`


def absolute(path: str | Path) -> Path:
    """The path with `~` expanded and from the root on: it means the same in every folder."""
    return Path(os.path.expanduser(path)).absolute()


def path_from_environment(name: str) -> Path | None:
    """The absolute path in an environment variable; None where it is empty or missing."""
    value = os.environ.get(name)
    return absolute(value) if value else None


def environment_for_children() -> dict[str, str]:
    """The environment for a process in another working folder: its paths mean the same there."""
    paths = {name: path_from_environment(name) for name in (CACHE_VARIABLE, RUNS_VARIABLE)}
    return os.environ | {name: str(path) for name, path in paths.items() if path}


def runs_folder() -> Path:
    """Where the page's runs are: `runs/` in the clone, or in the working folder if installed."""
    usual = (Path.cwd() if IS_INSTALLED else PROJECT) / "runs"
    return path_from_environment(RUNS_VARIABLE) or usual


def cache_folder() -> Path:
    """Where downloads and compiled programs are kept; FileNotFoundError without a home folder."""
    if chosen := path_from_environment(CACHE_VARIABLE):
        return chosen
    try:
        return pooch.os_cache("keras_lm")
    except RuntimeError:  # the user has no home folder, as in some containers
        message = f"There is no home folder; name a folder in {CACHE_VARIABLE}"
        raise FileNotFoundError(errno.ENOENT, message) from None
