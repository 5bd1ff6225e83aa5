"""What is wrong with a run and what to do about it, as a teacher would say it.

A rule looks for one thing and gives a Finding or None. In doubt it is silent: a wrong alarm costs
a person more than a late one. `tests/presentation/test_diagnosis.py` judges runs that were made for
this, and noise.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_lm.presentation.course import Course, Event, course_of
from keras_lm.presentation.formatting import plural
from keras_lm.settings.config import ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.variants import OPTIMIZERS, Optimizer
from keras_lm.storage.run_folder import FAILED, FINISHED, STOPPED

FEW_UPDATES = 200  # an optimizer needs up to a hundred to see more than the tokens' frequencies
ENOUGH_UPDATES = 1_000  # of the presets
TOO_FAST, TOO_SLOW = 10.0, 0.1  # times the usual rate: beyond, every run that was measured lost
NEEDS_WARMUP = 2.0  # times the usual rate: AdamW lost 5% and more without a warm-up, Muon nothing
USUAL_WARMUP = 20  # steps, of the preset Quick start
JUMP = 1.1  # times ln(vocabulary): a fresh model guesses better
RISEN_TRAINING = 1.03  # as RISEN, but a training loss is a mean over fewer tokens
KNOWN_BETTER = 0.95  # of the validation loss: two parts of one text differ by less
NO_BETTER = 0.99  # of the unigram entropy: whoever uses the context is soon below
SLOW, LEVEL = 0.05, 0.01  # of the loss, that the last half of the steps took away
READINGS = 10  # of a text, after which it is known by heart
TOKENS_PER_WEIGHT = 50  # read; with 20 a model of given cost is best (arXiv:2203.15556)
SOLVED = 0.1  # nats per token of a task's answers: what is left is noise, which may double
LEAST_BITS = 1.0  # per byte: what models with a thousand times the weights and texts reach
LONG_TEXT = 100_000  # tokens: a short book
LARGE_BATCH = 64  # sequences, the largest usual
LOWER = 3  # what a learning rate is divided by that is too high for its run
MORE_DROPOUT, MOST_DROPOUT = 0.1, 0.5


class Finding(NamedTuple):
    """One thing that is wrong with a run.

    Attributes:
        kind: its name.
        sentence: what is seen.
        advice: what to do: a setting by its label, and a value to try.
    """

    kind: str
    sentence: str
    advice: str

    @property
    def text(self) -> str:
        """Both sentences."""
        return f"{self.sentence} {self.advice}"


Rule = Callable[[Course], Finding | None]


def diagnose(
    config: RunConfig | None, status: Mapping[str, Any], events: Sequence[Event]
) -> list[Finding]:
    """At most two findings about a run: on its updates or its length, and on its text.

    Args:
        config: of the run; None, when it cannot be read, gives none.
        status: what fits of its status.
        events: all of its events so far.
    """
    course = course_of(config, status, events)
    if course is None:
        return []
    updates = _first(UPDATES, course)
    # A task has no text to know by heart, and is learned at once after a long plateau.
    text = None if course.config.data.task else _first(TEXT, course)
    # Bad updates explain a curve that is too high or flat; a text that is known by heart does too.
    length = None if updates or text or course.config.data.task else _first(LENGTH, course)
    return [finding for finding in (updates, length, text) if finding]


def _first(rules: Sequence[Rule], course: Course) -> Finding | None:
    return next((finding for rule in rules if (finding := rule(course))), None)


def diverged(course: Course) -> Finding | None:
    """An update gave infinite numbers, and the run went back to a lower rate."""
    factor = course.status.get("rate_factor", 1.0)
    if factor == 1.0:
        return None
    again = course.status.get("state") == FAILED
    rate = course.config.training.learning_rate * factor * (factor if again else 1.0)
    return Finding(
        "diverged",
        f"Training diverged{' twice' if again else ''}: the updates were too large.",
        f"{_set(' or ', learning_rate=rate, warmup_steps=_longer_warmup(course))}.",
    )


def rate_too_high(course: Course) -> Finding | None:
    """The rate is far above its optimizer's usual one."""
    rate, usual = course.config.training.learning_rate, _optimizer(course).usual_rate
    if not usual or rate <= TOO_FAST * usual:
        return None
    return Finding(
        "learning rate too high",
        f"The learning rate of {rate:g} is {rate / usual:,.0f} times the usual one: such updates "
        "overshoot, and the loss falls less than it could.",
        f"{_set(learning_rate=usual)}.",
    )


def rate_too_low(course: Course) -> Finding | None:
    """The rate is far below the usual one, and the loss falls slowly or is high."""
    rate, usual = course.config.training.learning_rate, _optimizer(course).usual_rate
    if rate >= TOO_SLOW * usual or not (course.is_falling or _knows_nothing(course)):
        return None
    return Finding(
        "learning rate too low",
        f"The loss falls, but slowly: the learning rate of {rate:g} is {usual / rate:,.0f} times "
        "smaller than the usual one.",
        f"{_set(learning_rate=usual)}.",
    )


def no_warmup(course: Course) -> Finding | None:
    """A high rate from the first step on, with an optimizer that needs a warm-up for it."""
    training, optimizer = course.config.training, _optimizer(course)
    is_high = training.learning_rate > NEEDS_WARMUP * optimizer.usual_rate
    if training.warmup_steps or not optimizer.usual_warmup or not is_high:
        return None
    return Finding(
        "no warm-up",
        f"{optimizer.label} began at the full learning rate of {training.learning_rate:g}: its "
        "first updates were too large, and the loss stays above what it could be.",
        f"{_set(warmup_steps=optimizer.usual_warmup)}.",
    )


def jumped(course: Course) -> Finding | None:
    """The loss was above that of random guessing."""
    peak = max(course.metrics, key=lambda event: event["loss"])
    at_random = math.log(course.status.get("vocab_size", math.inf))
    if peak["loss"] <= JUMP * at_random:
        return None
    training = course.config.training
    if training.warmup_steps < USUAL_WARMUP:
        advice = _set(warmup_steps=_longer_warmup(course))
    else:
        advice = _set(learning_rate=training.learning_rate / LOWER)
    return Finding(
        "updates too large",
        f"At step {peak['step']:,} the loss was {peak['loss']:.2f}, worse than random guessing "
        f"({at_random:.2f}): the updates were too large.",
        f"{advice}.",
    )


def rising(course: Course) -> Finding | None:
    """The losses of both parts of the text rise again."""
    is_solved = course.config.data.task and course.now.loss < SOLVED
    if is_solved or not course.has_risen or not _training_has_risen(course):
        return None
    return Finding(
        "loss rising",
        f"{_since_best(course)}, and the training loss rises as well: the updates are too large.",
        f"{_set(learning_rate=course.config.training.learning_rate / LOWER)}.",
    )


def no_order(course: Course) -> Finding | None:
    """The loss stands at the unigram entropy."""
    is_level = course.fall is not None and abs(course.fall) < LEVEL
    if course.now.step < FEW_UPDATES or not is_level or not _knows_nothing(course):
        return None
    return Finding(
        "no order in the text",
        f"The loss of {course.now.loss:.3f} is that of guessing by frequency "
        f"({course.status['unigram_entropy']:.3f}) and falls no more: nothing in the order of the "
        f"{course.unit} helps to guess the next.",
        "Read a piece of the text: if it is shuffled or random, choose another one.",
    )


def batch_too_large(course: Course) -> Finding | None:
    """The run ended after few updates, each of very many sequences."""
    training, step = course.config.training, course.metrics[-1]["step"]
    sequences = training.batch_size * training.gradient_accumulation
    if not _ended_early(course) or sequences <= LARGE_BATCH:
        return None
    # With a budget, more steps follow by themselves.
    has_budget = training.max_seconds or training.max_tokens
    smaller = max(4, 2 ** int(math.log2(max(1, sequences * step / ENOUGH_UPDATES))))
    more = {} if has_budget else {"steps": sequences * step // smaller}
    return Finding(
        "batch too large",
        f"It ended after only {plural(step, 'update')}, of {sequences:,} sequences each, while the "
        "loss was still falling.",
        f"{_set(' and ', batch_size=smaller, **more)}: it reads as much and learns more.",
    )


def too_few_steps(course: Course) -> Finding | None:
    """The run ended after few updates, and its text is long enough for more."""
    step = course.metrics[-1]["step"]
    most = READINGS * _train_tokens(course) // course.tokens_per_step
    more = int(float(f"{min(ENOUGH_UPDATES, most):.2g}"))
    if not _ended_early(course) or more < 2 * step:
        return None
    return Finding(
        "ended too early",
        f"It ended after only {plural(step, 'update')}, while the loss was still falling.",
        f"{_set(**_length(course, more))}.",
    )


def learned_nothing(course: Course) -> Finding | None:
    """The run ended no better than a guess by frequency, for no reason of the rules above."""
    training = course.config.training
    if not _has_ended(course) or not _knows_nothing(course):
        return None
    longer = _length(course, max(ENOUGH_UPDATES, 2 * course.metrics[-1]["step"]))
    return Finding(
        "nothing learned",
        f"With a loss of {course.now.loss:.3f} the model guesses no better than by frequency alone "
        f"({course.status['unigram_entropy']:.3f}): it has learned nothing from the context yet.",
        f"{_set(' or ', **longer, learning_rate=training.learning_rate / LOWER)}.",
    )


def model_too_small(course: Course) -> Finding | None:
    """The model has read far more than it can keep, and hardly improves on what it reads."""
    weights = course.status.get("parameters", math.inf)
    read = course.metrics[-1]["step"] * course.tokens_per_step
    knows_better = _training_loss_now(course) < KNOWN_BETTER * course.now.loss
    is_slow = course.fall is not None and course.fall < SLOW
    if read < TOKENS_PER_WEIGHT * weights or not is_slow or knows_better:
        return None
    return Finding(
        "model too small",
        f"The loss falls slowly on the training text too: {weights:,} weights are few for the "
        f"{read:,} {course.unit} that they read.",
        f"{_set(d_model=4 * course.config.model.d_model)}.",
    )


def plateau(course: Course) -> Finding | None:
    """The last half of the steps brought next to nothing."""
    is_level = course.fall is not None and abs(course.fall) < LEVEL
    if course.now.step < FEW_UPDATES or not is_level or course.has_risen:
        return None
    if _training_loss_now(course) < KNOWN_BETTER * course.now.loss:
        advice = f"{_set(dropout=_more_dropout(course))}, or choose a longer text."
    else:
        advice = f"{_set(d_model=2 * course.config.model.d_model)}; more steps alone do not help."
    return Finding(
        "plateau",
        f"The loss has hardly fallen since step {course.now.step // 2:,}.",
        advice,
    )


def leaked(course: Course) -> Finding | None:
    """The validation text is guessed better than a text that was never read can be."""
    bits = [event["val_bits_per_byte"] for event in course.metrics if "val_bits_per_byte" in event]
    if not bits or bits[-1] >= LEAST_BITS:
        return None
    return Finding(
        "validation text known",
        f"{bits[-1]:.2f} bits per byte are too few for a text that the model has not read: the "
        "text repeats itself, so that its last part, which validates, was read in the others.",
        "Remove what is repeated.",
    )


def text_too_small(course: Course) -> Finding | None:
    """Overfitting of a text whose first ten readings are too few updates to learn from."""
    size = _train_tokens(course)
    is_small = READINGS * size < FEW_UPDATES * course.tokens_per_step
    if not _overfits(course) or not is_small:
        return None
    return Finding(
        "text too small",
        f"{_since_best(course)}: {size:,} {course.unit} are too small a text, which the model "
        "learns by heart.",
        f"Choose a text of {LONG_TEXT:,} {course.unit} or more.",
    )


def overfitting(course: Course) -> Finding | None:
    """The validation loss rises while the training loss does not."""
    if not _overfits(course):
        return None
    return Finding(
        "overfitting",
        f"{_since_best(course)}: the model learns its text by heart.",
        f"{_set(' or ', **_length(course, course.best.step), dropout=_more_dropout(course))}, or "
        "choose a longer text.",
    )


UPDATES: Sequence[Rule] = (diverged, rate_too_high, rate_too_low, no_warmup, jumped, rising)
LENGTH: Sequence[Rule] = (
    no_order,
    batch_too_large,
    too_few_steps,
    learned_nothing,
    model_too_small,
    plateau,
)
TEXT: Sequence[Rule] = (leaked, text_too_small, overfitting)


def _set(joint: str = "", /, **values: float) -> str:
    """What to do, such as "Set Steps to 1,000 or Dropout to 0.1".

    Args:
        joint: between two settings.
        values: by the settings' names; two digits of a fraction are enough.
    """
    specs = {s.name: s for s in (*ModelConfig.specs(), *TrainingConfig.specs())}
    words = [
        f"{specs[name].metadata['label']} to "
        f"{f'{value:,}' if isinstance(value, int) else f'{value:.2g}'}"
        for name, value in values.items()
    ]
    return f"Set {joint.join(words)}"


def _optimizer(course: Course) -> Optimizer:
    return OPTIMIZERS[course.config.training.optimizer]


def _length(course: Course, steps: int) -> dict[str, float]:
    """The setting with which the run makes so many steps: its budget where it has one."""
    training, done = course.config.training, course.metrics[-1]["step"]
    if training.max_seconds:
        seconds = course.metrics[-1].get("seconds", training.max_seconds)
        return {"max_seconds": math.ceil(seconds * steps / done)}
    if training.max_tokens:
        return {"max_tokens": steps * course.tokens_per_step}
    return {"steps": steps}


def _longer_warmup(course: Course) -> int:
    return max(USUAL_WARMUP, 2 * course.config.training.warmup_steps)


def _more_dropout(course: Course) -> float:
    return min(MOST_DROPOUT, course.config.model.dropout + MORE_DROPOUT)


def _train_tokens(course: Course) -> int:
    """Of the text; a great many when that is not known."""
    return course.status.get("train_tokens", 10**15)


def _training_loss_now(course: Course) -> float:
    return course.training_loss(course.now.step)


def _has_ended(course: Course) -> bool:
    """Whether it ended, and not by hand before its last step."""
    status = course.status
    if status.get("state") == STOPPED:
        return course.metrics[-1]["step"] >= status.get("steps", 0)
    return status.get("state") == FINISHED


def _ended_early(course: Course) -> bool:
    """Whether it ended after few updates, still learning."""
    few = course.metrics[-1]["step"] < FEW_UPDATES
    return _has_ended(course) and few and course.is_falling


def _knows_nothing(course: Course) -> bool:
    """Whether a guess by frequency is as good; no, when that is not known."""
    entropy = course.status.get("unigram_entropy", 0.0)
    return 0.0 < NO_BETTER * entropy <= course.now.loss


def _since_best(course: Course) -> str:
    best, now = course.best, course.now
    return (
        f"The validation loss was lowest at step {best.step:,} ({best.loss:.3f}) and is "
        f"{now.loss:.3f} now"
    )


def _training_has_risen(course: Course) -> bool:
    return _training_loss_now(course) >= RISEN_TRAINING * course.training_loss(course.best.step)


def _overfits(course: Course) -> bool:
    """Whether only the validation loss has risen, and the model knows its training text better."""
    knows_better = _training_loss_now(course) < KNOWN_BETTER * course.now.loss
    return course.has_risen and knows_better and not _training_has_risen(course)
