"""How a run goes, in a sentence, and the measures of its curve that `diagnosis` judges by."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from keras_lm.presentation.forgetting import forgetting_of
from keras_lm.settings.config import RunConfig
from keras_lm.settings.variants import TOKENIZERS

Event = Mapping[str, Any]

RISEN = 0.01  # of the least validation loss: noise is about 0.3%, but where it is measured as more
LATEST = 4  # the newest of so many validations must have risen, and at least two
MANY = 6  # validations show their noise
BEND = 1.65  # the median of |a - 2b + c| where each is noise with a standard deviation of 1
LATELY = 0.75  # of the steps: what falls has its lowest loss after those
FALLING = 0.02  # of the loss, over the last half of the steps: as many again may give as much
RECENT = 0.9  # of the steps: a training loss is the mean over those after it
PARTS = 10  # of a run, each of which is spoken of once
WORST = 20.0  # nats: more are not worth counting


class Point(NamedTuple):
    """A loss in nats per token, after a step."""

    step: int
    loss: float


@dataclass(frozen=True)
class Course:
    """A run with at least one point of its curve.

    Attributes:
        config: of the run.
        status: what fits of its status; any key may be missing.
        metrics: its events of metrics, in the order of their steps; at least one.
    """

    config: RunConfig
    status: Mapping[str, Any]
    metrics: Sequence[Event]

    @cached_property
    def validations(self) -> list[Point]:
        """All validation losses."""
        return [Point(e["step"], e["val_loss"]) for e in self.metrics if "val_loss" in e]

    @cached_property
    def now(self) -> Point:
        """The newest validation; before the first one, the training loss."""
        last = self.metrics[-1]["step"]
        return self.validations[-1] if self.validations else Point(last, self.training_loss(last))

    @cached_property
    def best(self) -> Point:
        """The lowest validation loss; before the first one, `now`."""
        return min(self.validations, key=lambda point: point.loss, default=self.now)

    @cached_property
    def noise(self) -> float:
        """About one standard deviation of the validations around their trend, as a part of them."""
        losses = [point.loss for point in self.validations]
        if len(losses) < MANY:
            return 0.0
        bends = [
            abs(a - 2 * b + c) for a, b, c in zip(losses, losses[1:], losses[2:], strict=False)
        ]
        return statistics.median(bends) / BEND / statistics.mean(losses)

    @cached_property
    def has_risen(self) -> bool:
        """Whether the newest validations were worse than an earlier one by more than noise."""
        least, count = self.best.loss, max(2, len(self.validations) // LATEST)
        stays = all(
            point.loss >= (1 + max(RISEN, 4 * self.noise)) * least
            for point in self.validations[-count:]
        )
        once = self.now.loss >= (1 + max(2 * RISEN, 5 * self.noise)) * least
        return len(self.validations) > 2 and (stays or once)

    @cached_property
    def fall(self) -> float | None:
        """The part of the loss that the last half of the steps took away; None: not known yet."""
        half = self.now.step / 2
        if self.metrics[0]["step"] > half:
            return None
        if len(self.validations) < 2:  # the training loss at both ends, for they must compare
            before, now = self.training_loss(half), self.training_loss(self.now.step)
        else:
            earlier = [point.loss for point in self.validations if point.step <= half]
            if not earlier:
                return None
            before, now = earlier[-1], self.now.loss
        return 1 - now / before if before > 0 else None

    @property
    def is_falling(self) -> bool:
        """Whether the loss fell over the last half of the steps, and lately as well."""
        is_recent = self.best.step >= LATELY * self.now.step
        return self.fall is not None and self.fall >= FALLING and is_recent

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one update reads."""
        return self.config.tokens_per_step

    def training_loss(self, step: float) -> float:
        """The mean training loss over the last tenth of the steps up to `step`."""
        until = [event for event in self.metrics if event["step"] <= step] or self.metrics[:1]
        near = [event["loss"] for event in until if event["step"] > RECENT * step]
        near = near or [until[-1]["loss"]]
        return sum(near) / len(near)

    @property
    def unit(self) -> str:
        """What the run's tokens are called."""
        return unit_of(self.config)

    def in_words(self) -> str:
        """How far it got, how well it does and where it goes."""
        what = "validation" if self.validations else "training loss"
        parts = [f"Step {self.now.step:,}: {what} {self.now.loss:.2f}", *self._trend()]
        choices = math.exp(min(self.now.loss, WORST))
        number = f"{choices:,.1f}" if choices < 100 else f"{choices:,.0f}"
        sure = f"As unsure as choosing among {number} {self.unit}"
        if vocab_size := self.status.get("vocab_size"):
            sure += f"; it began with {vocab_size:,}"
        return f"{', '.join(parts)}. {sure}."

    def _trend(self) -> list[str]:
        parts = []
        if len(self.validations) > 1:
            lowest = f"lowest {self.best.loss:.2f} at step {self.best.step:,}"
            parts.append("best so far" if self.now.loss <= self.best.loss else lowest)
        if self.has_risen:
            parts.append("rising")
        elif self.fall is not None:
            parts.append("still falling" if self.is_falling else "level")
        return parts


def unit_of(config: RunConfig | None) -> str:
    """What a run's tokens are called: tokens, characters."""
    return TOKENIZERS[config.data.tokenizer].load().unit if config else "tokens"


def course_of(
    config: RunConfig | None, status: Mapping[str, Any], events: Sequence[Event]
) -> Course | None:
    """The run as it is judged; None before its first point, or when its config cannot be read.

    Args:
        config: of the run, or None.
        status: what fits of its status.
        events: all of its events so far.
    """
    metrics = [event for event in events if event["kind"] == "metrics"]
    return Course(config, status, metrics) if config and metrics else None


def describe_course(
    config: RunConfig | None, status: Mapping[str, Any], events: Sequence[Event]
) -> str:
    """How a run goes, in words; "" before its first point. Arguments as of `course_of`."""
    course, forgetting = course_of(config, status, events), forgetting_of(status, events)
    return " ".join(part.in_words() for part in (course, forgetting) if part)


def until_milestone(events: Sequence[Event], steps: int) -> Sequence[Event]:
    """The events up to the newest that is worth interrupting a person for.

    In each tenth of the run that is its first validation, or where nothing has been validated yet
    its first point.

    Args:
        events: all of the run's so far.
        steps: of the whole run.
    """
    validates = any("val_loss" in event for event in events)
    kept, part = 0, -1
    for index, event in enumerate(events):
        is_point = event["kind"] == "metrics" and (not validates or "val_loss" in event)
        if is_point and PARTS * event["step"] // steps > part:
            kept, part = index + 1, PARTS * event["step"] // steps
    return events[:kept]
