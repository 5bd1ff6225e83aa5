"""Starts, stops and finds runs. The run folders are the only truth; this holds nothing else."""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from keras_lm.keras_file.initial import keep_initial
from keras_lm.keras_file.opening import ModelFileError, check_model_file
from keras_lm.runs.process import is_alive, is_claimed
from keras_lm.runs.queue import active_runs, enqueued
from keras_lm.runs.ray_queue import check_ray
from keras_lm.runs.slots import chosen_slots
from keras_lm.settings.config import ConfigError, RunConfig
from keras_lm.settings.longer import Longer
from keras_lm.settings.training_config import MOST_STEPS
from keras_lm.storage import run_folder
from keras_lm.storage.files import PARTIAL, append_plain, remove_leftovers, sha256, write_atomically
from keras_lm.storage.run_folder import RunFolder
from keras_lm.storage.run_names import is_run_id, list_runs, new_run_id
from keras_lm.system.paths import PROJECT, environment_for_children

UPLOADS = "uploads"  # the folder beside the runs for uploaded files
UPLOAD_STEM = re.compile("[0-9a-f]{16}")  # of a file there
LEFTOVER_SECONDS = 60.0  # no upload takes longer to write


@dataclass(frozen=True)
class RunSummary:
    """A run as a list shows it.

    Attributes:
        run_id: the folder's name.
        state: one of the states in `run_folder`; what the status says, but for a dead process.
        config: what the run was made with, or None where it cannot be read.
        status: what fits of `status.json`.
        damage: a sentence about the first of its files that cannot be used; "" when all is well.
        notes: what fits of a person's notes about it.
        notes_damage: a sentence about what does not, without which the run is as good; or "".
    """

    run_id: str
    state: str
    config: RunConfig | None
    status: dict
    damage: str = ""
    notes: dict = field(default_factory=dict)
    notes_damage: str = ""

    @property
    def trained_config(self) -> RunConfig | None:
        """The config; of a run that was trained longer, with all its steps and no other budget.

        Example:
            >>> from keras_lm.settings.presets import ORIGINAL
            >>> run = RunSummary("mine", "finished", ORIGINAL, {"steps": 2_000})
            >>> run.config.training.steps, run.trained_config.training.steps
            (1000, 2000)
        """
        config, steps = self.config, self.status.get("steps", 0)
        if config is None or steps >= MOST_STEPS:  # the pace of its seconds is not known yet
            return config
        if not self.status.get("longer_from") and steps <= config.most_steps:
            return config
        length = {"steps": steps, "max_seconds": 0.0, "max_tokens": 0}
        return replace(config, training=config.training.changed(**length))

    @property
    def is_active(self) -> bool:
        """Whether it waits, prepares or trains."""
        return self.state in run_folder.ACTIVE_STATES

    @property
    def failed_to_learn(self) -> bool:
        """Whether it was never better than a guess by frequency, as far as its status says."""
        chance = self.status.get("unigram_entropy", 0.0)
        known = (self.status.get(name) for name in ("loss", "best_loss"))
        losses = [loss for loss in known if loss is not None]
        return not self.is_active and bool(losses) and min(losses) >= chance > 0.0


@contextlib.contextmanager
def disk_in_words() -> Iterator[None]:
    """Makes whatever the disk refuses a ConfigError, as all that a person is shown."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise ConfigError(
            f"The disk refused{where}: {error.strerror}. Make room or permit writing, then try "
            "again."
        ) from error


class Supervisor:
    """The runs below one folder.

    Args:
        root: the folder; made when the first run starts.
    """

    def __init__(self, root: Path):
        self.root = root
        self._children: dict[str, subprocess.Popen] = {}  # by the run they were started for
        self._ended: dict[str, tuple[tuple, RunSummary]] = {}  # by id: read with this signature
        self._lock = threading.Lock()  # tabs are threads

    def folder(self, run_id: str) -> RunFolder:
        """The run's folder; ConfigError unless `run_id` has an id's form, which no path has."""
        if not is_run_id(run_id):
            raise ConfigError(f"There is no run {run_id!r:.40}.")
        return RunFolder(self.root / run_id)

    @disk_in_words()
    def start(self, config: RunConfig, run_id: str | None = None, owner: str = "") -> str:
        """Starts a run in a process of its own, or queues it; returns its id.

        Args:
            config: of the run.
            run_id: a new id that the caller knows already; None makes one.
            owner: whose it is: a name for a race, or a tab of a browser, which take turns.
        """
        config.training.check_installed()
        chosen_slots()  # whose process would fail
        check_ray()
        folder = self.folder(run_id or new_run_id())
        try:
            folder.create()
            keep_initial(folder, config)
            folder.write_config(config.to_dict())
            folder.write_status(
                state=run_folder.QUEUED,
                steps=config.most_steps,
                message="Starting.",
                **enqueued(active_runs(list_runs(self.root)), owner),
            )
            self._launch(folder, "train", "--wait-turn")
        except (
            OSError,
            ConfigError,
        ):  # half a run helps nobody
            with contextlib.suppress(OSError):
                folder.remove()
            raise
        return folder.run_id

    @disk_in_words()
    def resume(self, run_id: str, longer: Longer | None = None) -> None:
        """Queues a run again that has ended; it goes on from its newest checkpoint.

        Args:
            run_id: of the run.
            longer: how much longer than was planned it is trained.
        """
        with self._lock:
            summary = self.summary(run_id)
            if summary is None or summary.is_active:
                return
            if summary.config is None:
                raise ConfigError(f"The run {run_id} is damaged. {summary.damage}")
            folder = self.folder(run_id)
            folder.take_request()  # what was asked of the process before
            position = enqueued(active_runs(list_runs(self.root)), summary.status.get("owner", ""))
            folder.write_status(state=run_folder.QUEUED, pid=None, message="Starting.", **position)
            flags = longer.flags if longer else []
            self._launch(folder, "resume", "--wait-turn", *flags)

    def _launch(self, folder: RunFolder, command: str, *flags: str) -> None:
        """Runs the command line in a session of its own, so that it outlives this process."""
        words = [sys.executable, "-m", "keras_lm", command, "--run-dir", str(folder.path.resolve())]
        with append_plain(folder.log_file) as log:
            child = subprocess.Popen(
                [*words, *flags],
                cwd=PROJECT,
                env=environment_for_children() | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[folder.run_id] = child

    def _reap(self) -> None:
        """Lets finished children go, which would stay zombies otherwise."""
        for run_id, child in [*self._children.items()]:
            if child.poll() is not None:
                self._children.pop(run_id, None)

    @disk_in_words()
    def request(self, run_id: str, action: str) -> None:
        """Asks a run for one of `run_folder.REQUESTS`; it answers within seconds."""
        self.folder(run_id).request(action)

    def summary(self, run_id: str) -> RunSummary | None:
        """One run as it is now; None when there is none. A run whose process died is marked so.

        A sound run that has ended is read again only after a file of it has changed; until then
        the summary is the same object.
        """
        folder = self.folder(run_id)
        self._reap()
        signature = folder.signature()
        known = self._ended.get(run_id)
        if known is not None and known[0] == signature:
            return known[1]
        summary = self._read(folder)
        if summary is not None and not summary.is_active and not summary.damage:
            self._ended[run_id] = (signature, summary)
        else:
            self._ended.pop(run_id, None)
        return summary

    def _read(self, folder: RunFolder) -> RunSummary | None:
        """The summary of a run's files as they are."""
        run_id = folder.run_id
        if os.path.isdir(folder.path) and not os.access(folder.path, os.R_OK | os.X_OK):
            damage = f"The folder {folder.path} cannot be read: permission denied."
            return RunSummary(run_id, run_folder.INTERRUPTED, None, {}, damage)
        if not folder.is_made_here:
            return None
        status, damage = folder.status_and_damage()
        if status.get("state") in run_folder.ACTIVE_STATES:
            if run_id not in self._children and not is_alive(folder):
                status = self._settle(folder, status)
        elif "state" not in status and is_claimed(folder):
            status["state"], damage = run_folder.PREPARING, ""  # it will write its status soon
        try:
            config = RunConfig.from_dict(folder.read_config())
        except ValueError as error:
            config, damage = None, damage or f"config.json cannot be used: {error!s:.300}"
        notes, notes_damage = folder.notes_and_damage()
        damage = damage or folder.events_damage()
        state = status.get("state", run_folder.INTERRUPTED)
        return RunSummary(run_id, state, config, status, damage, notes, notes_damage)

    def _settle(self, folder: RunFolder, status: dict) -> dict:
        """Marks a run whose process is gone; what it wrote in between counts."""
        if (newer := folder.read_status()) != status:
            return newer
        kept = " Its last saved model is kept." if folder.model_file.exists() else ""
        advice = "It had no checkpoint yet: start it again"
        if folder.has_checkpoint:
            advice = "Resume it from its newest checkpoint"
        values = {
            "state": run_folder.INTERRUPTED,
            "message": "The training process ended unexpectedly: it was killed, or the machine "
            f"went down or ran out of memory.{kept} {advice}; if memory ran out, a new run needs a "
            "lower batch_size, context_length or d_model. Its log may say more.",
        }
        try:
            folder.write_status(**values)
        except OSError:  # a full disk: the page shows it all the same
            return status | values
        return folder.read_status()

    def summaries(self) -> list[RunSummary]:
        """All runs, newest first."""
        found = (self.summary(folder.run_id) for folder in list_runs(self.root))
        return [summary for summary in found if summary is not None]

    @disk_in_words()
    def delete(self, run_id: str) -> None:
        """Removes a run that is not active; what this program did not make stays in its folder."""
        folder, summary = self.folder(run_id), self.summary(run_id)
        if summary is not None and summary.is_active:
            raise ConfigError(f"The run {run_id} is still active: stop it first.")
        if folder.path.exists() and not folder.is_made_here:
            raise ConfigError(
                (summary.damage if summary else "")
                or f"The folder {folder.path} was not made by this program: remove it by hand."
            )
        folder.remove()

    @disk_in_words()
    def keep_upload(self, content: bytes, suffix: str) -> Path:
        """Stores an uploaded file under a name of our own; the same bytes once only.

        Args:
            content: the bytes.
            suffix: ".txt" or ".keras".

        Raises:
            ModelFileError: for a model file that is not sound; nothing of it is kept.
        """
        folder = self.root / UPLOADS
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder, before=time.time() - LEFTOVER_SECONDS)
        digest = hashlib.sha256(content).hexdigest()
        path = folder / f"{digest[:16]}{suffix}"
        if not _is_whole(path, digest):
            if suffix == ".keras":
                _check_model(content, folder)
            write_atomically(path, content)
        return path

    def kept_upload(self, stem: str, suffix: str) -> Path | None:
        """The file that `keep_upload` once stored under that name; None when there is none."""
        path = self.root / UPLOADS / f"{stem}{suffix}"
        return path if UPLOAD_STEM.fullmatch(stem) and path.is_file() else None


def _is_whole(path: Path, digest: str) -> bool:
    try:
        return sha256(path) == digest
    except OSError:
        return False


def _check_model(content: bytes, folder: Path) -> None:
    """ModelFileError, which speaks of "The file", unless `content` is a sound model."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=PARTIAL) as file:
        file.write(content)
        file.flush()
        try:
            check_model_file(Path(file.name))
        except ModelFileError as error:
            raise ModelFileError(str(error).replace(file.name, "The file")) from None
