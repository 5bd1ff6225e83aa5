"""The run folder: what it holds, how it is written and read. Standard library only.

One process, the trainer, writes a run's events and status; the page asks through `control.json`
and writes what a person notes. Whatever is replaced is written beside, flushed to the disk and
renamed, so that a reader never sees half a file. Readers get the valid part of what they find,
whoever wrote it.
"""

import contextlib
import errno
import json
import math
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_lm.settings.formats import FORMATS
from keras_lm.storage import files
from keras_lm.storage.belongings import other_names, remove_made_here
from keras_lm.storage.events import is_until, parse_event, readable, thinned
from keras_lm.storage.files import (
    DamagedFile,
    append_plain,
    open_plain,
    read_json,
    write_atomically,
)
from keras_lm.storage.records import STATES, check_notes, check_status

QUEUED, PREPARING, TRAINING, PAUSED, FINISHED, STOPPED, FAILED, INTERRUPTED = STATES
ACTIVE_STATES = (QUEUED, PREPARING, TRAINING)
TAKEN_OUT = "Taken out of the queue."
MOVES = ("front", "up", "down")  # of a run that waits, in the queue
REQUESTS = ("stop", "pause", "sample", *MOVES)
BEST_FILE = re.compile(r"best-[0-9]{8}\.keras")
STATE_FILE, POSITION_FILE, MANIFEST_FILE = "state.npz", "position.json", "MANIFEST.json"
TENSORBOARD_FILE = re.compile(r"events\.out\.tfevents\.[0-9]+(\.[^/]*)?\.keras_lm")
CONFIG_KEYS = {"schema", "model", "data", "training"}
CHECKPOINT_FILES = (STATE_FILE, POSITION_FILE, MANIFEST_FILE)
MOST_EVENT_BYTES = 4 * 2**20  # of one line; no sample is longer
MOST_EVENTS_BYTES = 128 * 2**20  # what readers look at, some 300,000 points of a curve


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint's folder; one that holds anything else is not ours and stays whole."""
    if path.is_dir() and not path.is_symlink() and not other_names(path, CHECKPOINT_FILES):
        remove_made_here(path, CHECKPOINT_FILES)


class RunFolder:
    """One run on the disk.

    Args:
        path: the folder; `create()` makes it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._writing = threading.Lock()
        self.config_file = self.path / "config.json"
        self.status_file = self.path / "status.json"
        self.events_file = self.path / "events.jsonl"
        self.control_file = self.path / "control.json"
        self._earlier_taken_file = self.path / "control.taken"  # of earlier versions
        self.notes_file = self.path / "run-notes.json"
        self.log_file = self.path / "log.txt"
        self.tokenizer_file = self.path / "tokenizer.json"
        self.text_file = self.path / "text.txt"  # that was read from standard input
        self.lock_file = self.path / "process.lock"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.model_file = self.path / "model.keras"
        self.initial_model = self.path / "initial-model.keras"  # that the run goes on with
        self.initial_config = self.path / "initial-config.json"  # of the run that made it

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is one to go on from, sound or not."""
        return os.path.isdir(self.checkpoints) and any(self.checkpoints.glob("step-*"))

    @property
    def has_model(self) -> bool:
        """Whether there is a model to use, sound or not."""
        return os.path.isfile(self.model_file)

    def best_file(self, step: int) -> Path:
        """The model of an earlier step whose validation loss was lower than the last one."""
        return self.path / f"best-{step:08d}.keras"

    def tensorboard_file(self, begun: int) -> Path:
        """What a process writes for TensorBoard, by the second in which it began, and where."""
        return self.tensorboard / f"events.out.tfevents.{begun}.{os.uname().nodename}.keras_lm"

    def export_file(self, format: str) -> Path:
        """The model in another format, for download."""
        return self.path / f"export-{format}.zip"

    def _best_names(self) -> list[str]:
        names = os.listdir(self.path) if self.path.is_dir() else []
        return [name for name in names if BEST_FILE.fullmatch(name)]

    def remove_best_files(self, but: int) -> None:
        """Removes the best models of all steps but one."""
        for name in {*self._best_names()} - {self.best_file(but).name}:
            with contextlib.suppress(OSError):
                (self.path / name).unlink()

    @property
    def best_model(self) -> int:
        """The step of the best model where that is better than the last one; else 0."""
        step = self.read_status().get("best_step", 0)
        return step if step and os.path.isfile(self.best_file(step)) else 0

    @property
    def state_before_more(self) -> str:
        """What a run is again that was to go on and did not begin: FINISHED or STOPPED."""
        status = self.read_status()
        return FINISHED if status.get("step", 0) >= status.get("steps", 1) else STOPPED

    @property
    def offered_model(self) -> Path:
        """The file of the best model where that is better than the last one; else the last one."""
        best = self.best_model
        return self.best_file(best) if best else self.model_file

    @property
    def _files(self) -> list[str]:
        """The names of a run's files, its config last: half removed, it can be removed again."""
        own = [self.status_file, self.events_file, self.control_file, self._earlier_taken_file]
        own += [self.log_file, self.text_file, self.tokenizer_file]
        own += [self.lock_file, self.model_file, self.notes_file]
        own += [self.initial_model, self.initial_config]
        several = self._best_names() + [self.export_file(format).name for format in FORMATS]
        return [*several, *(file.name for file in (*own, self.config_file))]

    def _is_own(self, name: str) -> bool:
        """Whether a file with the name of a run's is the run's: two names others use as well."""
        if name == self.lock_file.name:
            return self.lock_is_own
        if name == self.text_file.name:
            with contextlib.suppress(DamagedFile):
                config = self.read_config()
                data = config.get("data") if isinstance(config, dict) else None
                return isinstance(data, dict) and str(data.get("data")).endswith(f"{os.sep}{name}")
            return False
        return True

    @property
    def lock_is_own(self) -> bool:
        """Whether the lock is one of ours, which are empty, or is not there."""
        return not os.path.exists(self.lock_file) or os.path.getsize(self.lock_file) == 0

    @property
    def holds_run(self) -> bool:
        """Whether a run was made here; a config alone may have been copied."""
        try:
            config = self.read_config()
        except DamagedFile:
            return False
        is_ours = isinstance(config, dict) and config.keys() >= CONFIG_KEYS
        return is_ours and (self._has_own_lock or self._has_own_status)

    @property
    def is_made_here(self) -> bool:
        """Whether the folder is a run's, even if its config is damaged."""
        return self._has_own_lock or self.holds_run

    @property
    def _has_own_lock(self) -> bool:
        return os.path.isfile(self.lock_file) and self.lock_is_own

    @property
    def _has_own_status(self) -> bool:
        """Whether there is a status that a run may have written, however damaged it is now."""
        try:
            status = read_json(self.status_file)
        except DamagedFile:
            return os.path.isfile(self.status_file)
        is_object = isinstance(status, dict)
        return is_object and (status.get("state") in STATES or "heartbeat" in status)

    def signature(self) -> tuple:
        """What changes when what a list shows of the run does: identity and times of its files."""
        files = (self.config_file, self.status_file, self.events_file, self.notes_file)
        found = []
        for path in (self.path, self.lock_file, *files):
            try:
                stat = os.stat(path)
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size))
            except OSError:
                found.append(None)
        return tuple(found)

    def other_names(self) -> list[str]:
        """What the folder holds that no run makes."""
        return other_names(self.path, [*self._files, self.checkpoints.name, self.tensorboard.name])

    def create(self) -> None:
        """Makes the folder and its parents; nothing is lost where it exists."""
        self.path.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Removes the run and its folder; whatever else is there stays, and the folder with it.

        Raises:
            OSError: when the disk refuses.
        """
        if self.path.is_symlink():  # the folder itself is somewhere else, where somebody put it
            self.path.unlink()
            return
        if self.checkpoints.is_dir() and not self.checkpoints.is_symlink():
            for path in self.checkpoints.glob("step-*"):
                remove_checkpoint(path)
            remove_made_here(self.checkpoints, [])
        if self.tensorboard.is_dir() and not self.tensorboard.is_symlink():
            names = os.listdir(self.tensorboard)
            remove_made_here(self.tensorboard, filter(TENSORBOARD_FILE.fullmatch, names))
        if self.path.is_dir():
            remove_made_here(self.path, filter(self._is_own, self._files))

    def write_config(self, config: dict) -> None:
        """Writes `config.json` (RunConfig.to_dict)."""
        write_atomically(self.config_file, json.dumps(config, indent=2).encode())

    def read_config(self) -> Any:
        """The run's config as JSON, or None without one; DamagedFile when it is something else."""
        return read_json(self.config_file)

    def write_status(self, **values: Any) -> None:
        """Merges `values` into `status.json` and stamps it with the time (`heartbeat`)."""
        with self._writing:  # a heartbeat may come from another thread
            status = self.read_status() | values | {"heartbeat": time.time()}
            write_atomically(self.status_file, json.dumps(status).encode())

    def read_status(self) -> dict:
        """What fits of the run's status; an empty object before there is one."""
        return self.status_and_damage()[0]

    def status_and_damage(self) -> tuple[dict, str]:
        """What fits of the run's status, and a sentence about what does not, or ""."""
        try:
            value = read_json(self.status_file)
        except DamagedFile as error:
            return {}, str(error)
        if value is None:
            return {}, "There is no status.json."
        status, fault = check_status(value)
        return status, f"In status.json {fault}." if fault else ""

    def write_notes(self, **values: Any) -> None:
        """Merges a person's notes about the run (`records.NOTES`) into `run-notes.json`.

        Raises:
            ValueError: for values that do not fit.
            OSError: when the disk refuses.
        """
        fault = check_notes(values)[1]
        if fault:
            raise ValueError(f"The notes of a run: {fault}.")
        notes = self.notes_and_damage()[0] | values
        write_atomically(self.notes_file, json.dumps(notes).encode())

    def notes_and_damage(self) -> tuple[dict, str]:
        """What fits of a person's notes, and a sentence about what does not, or ""."""
        try:
            value = read_json(self.notes_file)
        except DamagedFile as error:
            return {}, str(error)
        notes, fault = check_notes({} if value is None else value)
        return notes, f"In {self.notes_file.name} {fault}." if fault else ""

    def events_damage(self) -> str:
        """A sentence about an events file that cannot be read, or ""."""
        try:
            with contextlib.suppress(FileNotFoundError), open_plain(self.events_file):
                pass
        except OSError as error:
            return f"{self.events_file.name} cannot be read: {error.strerror}."
        return ""

    def request(self, action: str) -> None:
        """Asks the trainer for one of REQUESTS; it looks between compiled calls."""
        if action not in REQUESTS:
            raise ValueError(f"A request must be one of {', '.join(REQUESTS)}, but got {action!r}.")
        write_atomically(self.control_file, json.dumps({"request": action}).encode())

    def take_request(self) -> str | None:
        """The pending request, which is removed by this; None where there is none."""
        taken = files.partial_path(self.path)
        if os.path.isdir(self.control_file):  # somebody else's
            return None
        try:
            os.replace(self.control_file, taken)  # one that is made while this is read stays
        except OSError:
            return None
        try:
            control = read_json(taken)
        except DamagedFile:
            control = None
        taken.unlink(missing_ok=True)
        action = control.get("request") if isinstance(control, dict) else None
        return action if action in REQUESTS else None

    def append_event(self, event: dict) -> None:
        """Adds one line to `events.jsonl`, whole or not at all. One process may do so."""
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        with append_plain(self.events_file) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                if file.write(line) < len(line):  # what a disk takes that is nearly full
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(size)
                raise

    def flush_events(self) -> None:
        """Waits until all events are on the disk."""
        with contextlib.suppress(FileNotFoundError), open_plain(self.events_file) as file:
            os.fsync(file.fileno())

    def read_events(self, offset: int = 0, about: int = 0) -> tuple[list[dict], int]:
        """Events from byte `offset` on, and the offset after them; a torn last line waits.

        Damaged lines are left out; a note at the end says so. `about`: of more points without
        validation only so many, evenly spread, are looked at (`events.thinned`); 0: all.
        """
        events: list[dict] = []
        faults: list[str] = []
        lines: list[bytes] = []
        for line, end in readable(self._lines(offset, MOST_EVENTS_BYTES)):
            lines.append(line)
            offset = end
        for line in thinned(lines, about) if about else lines:
            event, fault = parse_event(line)
            if fault:
                faults.append(fault)
            else:
                events.append(event)
        if offset >= MOST_EVENTS_BYTES and (events or faults):
            faults.append(f"what follows the first {MOST_EVENTS_BYTES:,} bytes is too much to show")
        if faults:
            message = f"Lines of events.jsonl left out: {len(faults):,}; the first: {faults[0]}."
            events.append({"kind": "note", "step": 0, "message": message})
        return events, offset

    def read_thinned(self, about: int) -> list[dict]:
        """The events that `events.thinned` keeps of a long run; damaged lines are left out."""
        lines = thinned([line for line, _ in readable(self._lines(0, MOST_EVENTS_BYTES))], about)
        return [event for event, fault in map(parse_event, lines) if not fault]

    def _lines(self, offset: int, most_bytes: float) -> Iterator[tuple[bytes, int]]:
        """Whole lines of the events file, each with the offset after it."""
        try:
            with open_plain(self.events_file) as file:
                file.seek(offset)
                while offset < most_bytes and (line := file.readline(MOST_EVENT_BYTES)):
                    if not line.endswith(b"\n") and len(line) < MOST_EVENT_BYTES:
                        return  # torn; one that is too long is given in damaged pieces
                    offset += len(line)
                    yield line, offset
        except OSError:
            return

    def truncate_events(self, last_step: int) -> None:
        """Keeps the events up to `last_step`, for a run that goes on from there."""
        lines = (line for line, _ in self._lines(0, math.inf))
        kept = [line for line in lines if is_until(line, last_step)]
        write_atomically(self.events_file, b"".join(kept))

    def remove_leftovers(self, before: float) -> None:
        """Removes what killed processes were writing before a time, and what they left unread."""
        for folder in (self.path, self.checkpoints):
            files.remove_leftovers(folder, before)
        with contextlib.suppress(OSError):
            self._earlier_taken_file.unlink()

    def log_tail(self, num_bytes: int = 8_000) -> str:
        """The last whole lines of the process's own output."""
        return files.last_lines(self.log_file, num_bytes)
