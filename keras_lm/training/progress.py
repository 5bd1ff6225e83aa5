"""A run in its process: its parts, how far it got, what a person asks of it."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from keras_lm.data.corpus import Corpus
from keras_lm.settings.config import RunConfig, TrainingConfig
from keras_lm.storage.run_folder import MOVES, RunFolder
from keras_lm.training.checkpoint import Checkpoint
from keras_lm.training.train_step import METRICS

LEAST_RATE = 1e-7  # the lowest learning rate that the settings allow


def no_values() -> dict[str, list[float]]:
    """For each name in METRICS an empty list.

    Example:
        >>> no_values()
        {'loss': [], 'accuracy': [], 'grad_norm': []}
    """
    return {name: [] for name in METRICS}


class Best(NamedTuple):
    """The best validation so far.

    Attributes:
        step: updates made before it.
        loss: nats per token.
        since: validations since then, none of which was better.
    """

    step: int
    loss: float
    since: int = 0


@dataclass
class Progress:
    """How far a run got; a checkpoint keeps most of it beside the variables.

    Attributes:
        started: when this process started or went back to a checkpoint, `time.time()`.
        rate_factor: what the learning rate is multiplied by: below 1 after training diverged once.
        step: updates made.
        earlier_seconds: seconds that the run took before `started`.
        train_seconds: seconds of the compiled calls alone, since the run's first step.
        start_seconds: seconds before the first steps of all its processes.
        pending: for each name in METRICS its values since the last event.
        train_loss: of the last event, nats per token; None before the first of this process.
        val_loss: the last one measured, nats per token; None before the first.
        best: the best validation; None before the first.
    """

    started: float
    rate_factor: float = 1.0
    step: int = 0
    earlier_seconds: float = 0.0
    train_seconds: float = 0.0
    start_seconds: float = 0.0
    pending: dict[str, list[float]] = field(default_factory=no_values)
    train_loss: float | None = None
    val_loss: float | None = None
    best: Best | None = None

    def go_to(self, found: Checkpoint | None) -> None:
        """Takes the position of a checkpoint; None: the run's beginning."""
        position = found.position if found else {}
        self.step = found.step if found else 0
        self.earlier_seconds = position.get("seconds", 0.0)
        self.train_seconds = position.get("train_seconds", 0.0)
        self.start_seconds = position.get("start_seconds", 0.0)
        kept = position.get("pending") or no_values()
        self.pending = {
            name: [math.inf if value is None else value for value in values]
            for name, values in kept.items()
        }
        self.val_loss = position.get("val_loss")
        best = position.get("best")
        self.best = Best(**best) if best else None

    def position(self) -> dict:
        """What `go_to` reads, as a JSON object, which has no infinity: float16 may overflow."""
        pending = {
            name: [value if math.isfinite(value) else None for value in values]
            for name, values in self.pending.items()
        }
        return {
            "seconds": self.seconds,
            "train_seconds": self.train_seconds,
            "start_seconds": self.start_seconds,
            "pending": pending,
            "val_loss": self.val_loss,
            "best": self.best and self.best._asdict(),
        }

    @property
    def seconds(self) -> float:
        """Seconds that the run took so far, in all its processes."""
        return self.earlier_seconds + time.time() - self.started

    def counted_seconds(self, count_start: bool) -> float:
        """What a budget of seconds counts: with or without what comes before the first step."""
        return self.seconds - (0.0 if count_start else self.start_seconds)

    def validated(self, loss: float) -> bool:
        """Notes a validation, in nats per token; returns whether it is the best so far.

        Example:
            >>> progress = Progress(started=0.0, step=10)
            >>> progress.validated(2.5), progress.validated(2.5), progress.best
            (True, False, Best(step=10, loss=2.5, since=1))
        """
        self.val_loss = loss if math.isfinite(loss) else None
        is_best = self.val_loss is not None and (self.best is None or loss < self.best.loss)
        if is_best:
            self.best = Best(self.step, loss)
        elif self.best:
            self.best = self.best._replace(since=self.best.since + 1)
        return is_best

    @property
    def newest_loss(self) -> float | None:
        """The loss of the newest validation; where nothing is validated, of the newest event."""
        return self.train_loss if self.val_loss is None else self.val_loss


class Requests:
    """What a person asks of a run, through its folder or by a signal to its process.

    Args:
        folder: the run's.

    Attributes:
        latest: one of `run_folder.REQUESTS` that is not served yet, or None.
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self.latest: str | None = None

    def listen(self) -> None:
        """Takes the folder's request, if there is one; it is too late to move in the queue."""
        request = self._folder.take_request()
        if request not in (None, *MOVES):
            self.latest = request

    def stop(self) -> None:
        """Asks the run to stop, as the page does."""
        self.latest = "stop"

    def serve_sample(self) -> None:
        """Forgets a request for a sample, which was written."""
        if self.latest == "sample":
            self.latest = None

    @property
    def end_run(self) -> bool:
        """Whether the run is asked to end before its last step."""
        return self.latest in ("stop", "pause")


@dataclass(frozen=True)
class Run:
    """All that a run consists of before its model is built.

    Attributes:
        folder: its folder, which holds its config.
        config: with model.vocab_size filled in.
        corpus: its text, as tokens.
        progress: how far it got.
        requests: what is asked of it.
        report: called with a line of progress at every point of the loss curve.
    """

    folder: RunFolder
    config: RunConfig
    corpus: Corpus
    progress: Progress
    requests: Requests
    report: Callable[[str], None]

    @property
    def settings(self) -> TrainingConfig:
        """The settings of training with the learning rate as it is now."""
        return scale_rate(self.config.training, self.progress.rate_factor)

    def note(self, message: str) -> None:
        """Writes what happened to the run as an event, and reports it."""
        event = {"kind": "note", "step": self.progress.step, "message": message}
        self.folder.append_event(event)
        self.report(message)


def scale_rate(settings: TrainingConfig, factor: float) -> TrainingConfig:
    """The settings with the learning rate and its floor multiplied by `factor`.

    Example:
        >>> scale_rate(TrainingConfig(learning_rate=1e-3), 0.25).learning_rate
        0.00025
    """
    rate, floor = factor * settings.learning_rate, factor * settings.min_learning_rate
    rate = max(rate, LEAST_RATE)
    return dataclasses.replace(settings, learning_rate=rate, min_learning_rate=floor)
