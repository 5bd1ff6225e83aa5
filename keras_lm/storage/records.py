"""What a run's status, events and notes consist of. What does not fit is left out and named.

Fields that are not listed are kept as they are: a later version may have written them.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

STATES = (
    "queued",
    "preparing",
    "training",
    "paused",
    "finished",
    "stopped",
    "failed",
    "interrupted",
)
MOST = 10**15  # of whatever is counted or timed


class Kind(NamedTuple):
    """The values that a field may have.

    In words; their types; the range of numbers, or of the length of texts; the texts.
    """

    words: str
    types: tuple[type, ...]
    low: float = 0
    high: float = MOST
    choices: tuple[str, ...] = ()

    def fits(self, value: Any) -> bool:
        """Whether the value is one of them."""
        if type(value) not in self.types:  # a bool is no number here
            return False
        if isinstance(value, str):
            if self.choices:
                return value in self.choices
            return self.low <= len(value) <= self.high and not LONE_SURROGATE.search(value)
        is_small = isinstance(value, float) or -MOST <= value <= MOST
        return is_small and self.low <= value <= self.high


class ListOf(NamedTuple):
    """The lists that a field may have: in words, and the kind of what is in them."""

    words: str
    each: Kind

    def fits(self, value: Any) -> bool:
        """Whether the value is one of them."""
        return isinstance(value, list) and all(map(self.each.fits, value))


LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # which has no UTF-8 form
TEXT = Kind("text", (str,))
LINE = Kind("text", (str,))  # of which readers get the beginning
LONGEST_LINE = 2_000  # characters
NUMBER = Kind("a number", (float, int), -sys.float_info.max, sys.float_info.max)
AMOUNT = Kind("a number from 0", (float, int))
WHOLE = Kind("a whole number from 0", (int,))
COUNT = Kind("a whole number from 1", (int,), 1)
PID = Kind("a process's number", (int,), 1, 2**31 - 1)
FACTOR = Kind("a number above 0, at most 1", (float, int), sys.float_info.min, 1)
TEXTS = ListOf("a list of texts", TEXT)
PROBABILITIES = ListOf("a list of numbers from 0 to 1", Kind("a probability", (float, int), 0, 1))
STATE = Kind(f"one of {', '.join(STATES)}", (str,), choices=STATES)

STATUS = {
    "state": STATE,
    **dict.fromkeys(("message", "precision", "versions", "machine", "init_sha256"), LINE),
    **dict.fromkeys(("first_title", "reading"), LINE),
    "first_bits": AMOUNT,
    "pid": PID,
    **dict.fromkeys(("owner", "host", "attempt"), LINE),
    **dict.fromkeys(("heartbeat", "queued_at", "turn", "pid_started", "others"), AMOUNT),
    **dict.fromkeys(("unigram_entropy", "ends_at", "train_seconds"), AMOUNT),
    **dict.fromkeys(("step", "model_step", "best_step", "longer_from"), WHOLE),
    **dict.fromkeys(("train_tokens", "validation_tokens"), WHOLE),
    **dict.fromkeys(("steps", "parameters", "vocab_size"), COUNT),
    "rate_factor": FACTOR,
    **dict.fromkeys(("loss", "best_loss", "last_loss"), NUMBER),
}
NAME_LENGTH, NOTE_LENGTH = 80, 4_000  # characters
NOTES = {
    "name": Kind(f"text of at most {NAME_LENGTH} characters", (str,), high=NAME_LENGTH),
    "note": Kind(f"text of at most {NOTE_LENGTH:,} characters", (str,), high=NOTE_LENGTH),
    "starred": Kind("true or false", (bool,)),
}
METRICS = {
    "step": COUNT,
    **dict.fromkeys(("seconds", "train_seconds", "tokens", "tokens_per_second"), AMOUNT),
    **dict.fromkeys(("memory_mb", "gpu_memory_mb"), AMOUNT),
    **dict.fromkeys(("loss", "perplexity", "bits_per_byte", "accuracy"), NUMBER),
    **dict.fromkeys(("learning_rate", "grad_norm"), NUMBER),
    "task_accuracy": NUMBER,
    **dict.fromkeys(("val_loss", "val_perplexity", "val_bits_per_byte", "val_accuracy"), NUMBER),
    "first_val_bits_per_byte": NUMBER,
}
EVENTS: dict[str, Mapping[str, Kind | ListOf]] = {
    "metrics": METRICS,
    "sample": {"step": WHOLE, "prompt": TEXT, "text": TEXT},
    "note": {"step": WHOLE, "message": LINE},
    "window": {"step": WHOLE, "tokens": TEXTS},
    "probabilities": {"step": WHOLE, "of_next": PROBABILITIES},
    "plan": {
        **dict.fromkeys(("step", "begin", "warmup"), WHOLE),
        "steps": COUNT,
        **dict.fromkeys(("progress", "rate", "deadline"), AMOUNT),
    },
}
# Of a run without a process, a point of the curve, a validation.
MAY_BE_NULL = ("pid", "loss", "best_loss", "last_loss")
# What there must be; every other field may be missing.
NEEDED = {
    "metrics": ("step", "tokens", "loss", "seconds", "train_seconds"),
    "sample": ("step", "prompt", "text"),
    "note": ("message",),
    "window": ("tokens",),
    "probabilities": ("step", "of_next"),
    "plan": ("step", "steps"),
}


def check_status(value: Any) -> tuple[dict, str]:
    """The fields of a status that fit, and a sentence about the first that does not, or "".

    Example:
        >>> check_status({"state": "training", "step": -1})
        ({'state': 'training'}, 'step must be a whole number from 0, but got -1')
    """
    if not isinstance(value, dict):
        return {}, f"It must be a JSON object, but got {describe(value)}."
    status, fault = _fitting(value, STATUS)
    if not fault and "state" not in status:
        fault = "It must have a state, but there is none."
    return status, fault


def check_notes(value: Any) -> tuple[dict, str]:
    """What fits of a person's notes about a run, and a sentence about what does not, or "".

    Example:
        >>> check_notes({"name": "Small", "starred": 1})
        ({'name': 'Small'}, 'starred must be true or false, but got 1')
    """
    if not isinstance(value, dict):
        return {}, f"it must be a JSON object, but got {describe(value)}"
    return _fitting(value, NOTES)


def check_event(value: Any) -> tuple[dict, str]:
    """The event without what does not fit, and what is wrong with it, or "".

    Example:
        >>> check_event({"kind": "note", "step": 3, "message": "Went back."})
        ({'kind': 'note', 'step': 3, 'message': 'Went back.'}, '')
    """
    if not isinstance(value, dict):
        return {}, f"an event must be a JSON object, but got {describe(value)}"
    kind = value.get("kind")
    if not isinstance(kind, str) or not TEXT.fits(kind):
        return {}, f"its kind must be text, but got {describe(kind)}"
    event, fault = _fitting(value, EVENTS.get(kind, {"step": WHOLE}))
    if not fault:
        missing = [name for name in NEEDED.get(kind, ()) if name not in event]
        fault = f"{kind} must have {missing[0]}, but there is none" if missing else ""
    return event, fault


def _fitting(record: dict, fields: Mapping[str, Kind | ListOf]) -> tuple[dict, str]:
    """The fields that fit and are not null, and a sentence about the first that does not fit."""
    kept, fault = {}, ""
    for name, value in record.items():
        kind = fields.get(name)
        if value is None and name in MAY_BE_NULL:
            continue
        if kind is None or kind.fits(value):
            kept[name] = str(value)[:LONGEST_LINE] if kind is LINE else value
        elif not fault:
            fault = f"{name} must be {kind.words}, but got {describe(value)}"
    return kept, fault


def describe(value: Any) -> str:
    """A JSON value in few characters.

    Example:
        >>> describe([1, 2]), describe(None), describe("no")
        ('a list', 'null', "'no'")
    """
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "null" if value is None else ascii(value)[:40]
