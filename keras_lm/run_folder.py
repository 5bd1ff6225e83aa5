"""The run folder: what it holds, how it is written and read. Standard library only.

One process writes a run's events and status, the trainer; the page only asks through
`control.json`. Whatever is replaced is written beside, flushed to the disk and renamed, so that a
reader never sees half a file.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

QUEUED, PREPARING, TRAINING, PAUSED = "queued", "preparing", "training", "paused"
FINISHED, STOPPED, FAILED, INTERRUPTED = "finished", "stopped", "failed", "interrupted"
ACTIVE_STATES = (QUEUED, PREPARING, TRAINING)
REQUESTS = ("stop", "pause", "sample")
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
LEFTOVER_SECONDS = 60.0  # no write takes longer
PARTIAL = ".keras_lm-partial-"  # begins the name of whatever is still being written
STATE_FILE, POSITION_FILE, MANIFEST_FILE = "state.npz", "position.json", "MANIFEST.json"
CONFIG_KEYS = {"schema", "model", "data", "training"}
CHECKPOINT_FILES = (STATE_FILE, POSITION_FILE, MANIFEST_FILE)


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content`, whole or not at all; OSError leaves the old one intact."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Returns when the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def other_names(folder: Path, names: Iterable[str]) -> list[str]:
    """What `folder` holds beside `names` and what is still being written, sorted."""
    entries = os.listdir(folder) if folder.is_dir() else []
    return sorted(e for e in entries if e not in names and not e.startswith(PARTIAL))


def remove_made_here(folder: Path, names: Iterable[str]) -> None:
    """Removes the files `names` from `folder`, and the folder unless it holds something else.

    Links are never followed. OSError when the disk refuses.
    """
    for path in folder.glob(f"{PARTIAL}*"):
        _remove_partial(path)
    for name in names:
        if (folder / name).is_symlink() or (folder / name).is_file():
            (folder / name).unlink()
    if not os.listdir(folder):
        folder.rmdir()


def _remove_partial(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint's folder; one that holds anything else is not ours and stays whole."""
    if path.is_dir() and not path.is_symlink() and not other_names(path, CHECKPOINT_FILES):
        remove_made_here(path, CHECKPOINT_FILES)


def read_json(path: Path) -> Any:
    """The file's JSON value, or None where there is no readable one."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def new_run_id() -> str:
    """An id that sorts by time and is a safe folder name, such as 20260131-093000-1f2e3d."""
    return time.strftime("%Y%m%d-%H%M%S-") + os.urandom(3).hex()


class RunFolder:
    """One run on the disk.

    Args:
        path: the folder; `create()` makes it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.status_file = self.path / "status.json"
        self.events_file = self.path / "events.jsonl"
        self.control_file = self.path / "control.json"
        self._taken_file = self.path / "control.taken"
        self.log_file = self.path / "log.txt"
        self.tokenizer_file = self.path / "tokenizer.json"
        self.lock_file = self.path / "process.lock"
        self.checkpoints = self.path / "checkpoints"
        self.model_file = self.path / "model.keras"

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one to go on from, sound or not."""
        return any(self.checkpoints.glob("step-*"))

    @property
    def _files(self) -> list[str]:
        """The names of a run's files, its config last: half removed, it can be removed again."""
        files = [self.status_file, self.events_file, self.control_file, self._taken_file]
        files += [self.log_file, self.tokenizer_file, self.lock_file, self.model_file]
        return [file.name for file in (*files, self.config_file)]

    @property
    def holds_run(self) -> bool:
        """Whether a run was made here; a config alone may have been copied."""
        config = self.read_config()
        is_ours = isinstance(config, dict) and config.keys() >= CONFIG_KEYS
        return is_ours and (self.status_file.is_file() or self.lock_file.is_file())

    @property
    def is_made_here(self) -> bool:
        """Whether the folder is a run's, maybe one whose config is damaged."""
        return self.holds_run or self.lock_file.is_file()

    def other_names(self) -> list[str]:
        """What the folder holds that no run makes."""
        return other_names(self.path, [*self._files, self.checkpoints.name])

    def create(self) -> None:
        """Makes the folder and its parents; nothing is lost where it exists."""
        self.path.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Removes the run and its folder; whatever else is there stays, and the folder with it.

        Raises OSError when the disk refuses.
        """
        if self.path.is_symlink():  # the folder itself is somewhere else, where somebody put it
            self.path.unlink()
            return
        if self.checkpoints.is_dir() and not self.checkpoints.is_symlink():
            for path in self.checkpoints.glob("step-*"):
                remove_checkpoint(path)
            remove_made_here(self.checkpoints, [])
        if self.path.is_dir():
            remove_made_here(self.path, self._files)

    def write_config(self, config: dict) -> None:
        """Writes `config.json` (RunConfig.to_dict)."""
        write_atomically(self.config_file, json.dumps(config, indent=2).encode())

    def read_config(self) -> dict | None:
        """The run's config as a JSON object, or None."""
        return read_json(self.config_file)

    def write_status(self, **values: Any) -> None:
        """Merges `values` into `status.json` and stamps it with the time (`heartbeat`)."""
        status = self.read_status() | values | {"heartbeat": time.time()}
        write_atomically(self.status_file, json.dumps(status).encode())

    def read_status(self) -> dict:
        """The run's status; an empty object before there is one."""
        status = read_json(self.status_file)
        return status if isinstance(status, dict) else {}

    def request(self, action: str) -> None:
        """Asks the trainer for one of REQUESTS; it looks between compiled calls."""
        if action not in REQUESTS:
            raise ValueError(f"A request must be one of {', '.join(REQUESTS)}, not {action!r}.")
        write_atomically(self.control_file, json.dumps({"request": action}).encode())

    def take_request(self) -> str | None:
        """The pending request, which is removed by this; None where there is none."""
        taken = self._taken_file
        try:
            os.replace(self.control_file, taken)  # one that comes while this is read stays
        except OSError:
            return None
        control = read_json(taken)
        taken.unlink(missing_ok=True)
        action = control.get("request") if isinstance(control, dict) else None
        return action if action in REQUESTS else None

    def append_event(self, event: dict) -> None:
        """Adds one line to `events.jsonl`, whole or not at all. One process may do so."""
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        with open(self.events_file, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) < len(line):  # what a disk takes that is nearly full
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise

    def flush_events(self) -> None:
        """Returns when all events are on the disk."""
        if self.events_file.exists():
            with open(self.events_file, "rb") as file:
                os.fsync(file.fileno())

    def read_events(self, offset: int = 0) -> tuple[list[dict], int]:
        """Events from byte `offset` on, and the offset after them; a torn last line waits."""
        try:
            with open(self.events_file, "rb") as file:
                file.seek(offset)
                content = file.read()
        except OSError:
            return [], offset
        whole = content[: content.rfind(b"\n") + 1]
        return list(_parse_lines(whole)), offset + len(whole)

    def truncate_events(self, last_step: int) -> None:
        """Keeps the events up to `last_step`, for a run that goes on from there."""
        events, _ = self.read_events()
        kept = [event for event in events if event.get("step", 0) <= last_step]
        content = b"".join(json.dumps(event).encode() + b"\n" for event in kept)
        write_atomically(self.events_file, content)

    def remove_leftovers(self) -> None:
        """Removes what a killed process was still writing; younger files may be another's."""
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(f"{PARTIAL}*"):
                with contextlib.suppress(OSError):
                    if time.time() - path.lstat().st_mtime > LEFTOVER_SECONDS:
                        _remove_partial(path)

    def log_tail(self, num_bytes: int = 8_000) -> str:
        """The end of the process's own output."""
        try:
            with open(self.log_file, "rb") as file:
                file.seek(max(0, self.log_file.stat().st_size - num_bytes))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def _parse_lines(content: bytes) -> Iterator[dict]:
    for line in content.splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # a line torn by a crash, then continued by a resumed run
            continue
        if isinstance(event, dict):
            yield event


def list_runs(root: Path) -> list[RunFolder]:
    """The runs below `root`, newest first."""
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except OSError:
        return []
    return [
        RunFolder(root / name) for name in sorted(names, reverse=True) if RUN_ID.fullmatch(name)
    ]
