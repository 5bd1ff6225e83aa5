"""A run's samples over its steps, and how likely each held the tokens of a validation text."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

DARKEST, FLOOR = 0.6, 1e-3  # how opaque a token is whose probability is this small or smaller
LEAST = 1e-12  # a smaller probability counts as this


class Point(NamedTuple):
    """A sample, and what its model expected of the held-out text.

    Attributes:
        step: updates made before it.
        prompt: what it continues.
        text: what the model wrote.
        of_next: the probability of each held-out token but the first; empty where none were
            written, as by earlier versions.
    """

    step: int
    prompt: str
    text: str
    of_next: list[float]


class Timeline(NamedTuple):
    """All samples of a run.

    Attributes:
        tokens: the texts of the held-out tokens; empty where none were written.
        points: one per step that has a sample, in their order.
    """

    tokens: list[str]
    points: list[Point]


def read_timeline(events: Sequence[Mapping[str, Any]]) -> Timeline:
    """The samples among a run's events, each with the probabilities that were written beside it.

    Example:
        >>> events = [{"kind": "window", "tokens": ["a", "b"]},
        ...     {"kind": "sample", "step": 10, "prompt": "a", "text": "bb"},
        ...     {"kind": "probabilities", "step": 10, "of_next": [0.5]}]
        >>> read_timeline(events).points
        [Point(step=10, prompt='a', text='bb', of_next=[0.5])]
    """
    tokens = next((event["tokens"] for event in events if event["kind"] == "window"), [])
    likely = {
        event["step"]: event["of_next"]
        for event in events
        if event["kind"] == "probabilities" and len(event["of_next"]) == len(tokens) - 1
    }
    points = {
        event["step"]: Point(
            event["step"], event["prompt"], event["text"], likely.get(event["step"], [])
        )
        for event in events
        if event["kind"] == "sample"
    }
    return Timeline(tokens, [points[step] for step in sorted(points)])


def thin(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` points, 2 or more, evenly chosen, the first and the last among them.

    Example:
        >>> [point.step for point in thin([Point(step, "", "", []) for step in range(9)], 3)]
        [0, 4, 8]
    """
    if len(points) <= most:
        return [*points]
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def shade(probability: float) -> float:
    """How opaque a token's colour is: the more, the less likely it was.

    Example:
        >>> shade(1.0), shade(0.0)
        (0.0, 0.6)
    """
    return round(DARKEST * float(np.log(max(probability, FLOOR)) / np.log(FLOOR)) + 0.0, 2)


def unsureness(of_next: Sequence[float]) -> float:
    """Among how many equally likely tokens the model would be as unsure: its perplexity.

    Example:
        >>> round(unsureness([0.5, 0.125]), 3)
        4.0
    """
    return float(np.exp(-np.log(np.maximum(of_next, LEAST)).mean()))


def describe_window(tokens: Sequence[str], of_next: Sequence[float], unit: str = "tokens") -> str:
    """The shades in words: how unsure the model was, and of what the most and the least.

    Args:
        tokens: of the text.
        of_next: the probability of each but the first.
        unit: what they are called.

    Example:
        >>> describe_window(["T", "h", "e"], [0.125, 0.5])
        "As unsure as when choosing among 4.0 tokens. Surest of 'e' (50.0%), least of 'h' (12.5%)."
    """
    best, worst = int(np.argmax(of_next)), int(np.argmin(of_next))
    return (
        f"As unsure as when choosing among {unsureness(of_next):,.1f} {unit}. "
        f"Surest of {tokens[best + 1]!r} ({of_next[best]:.1%}), "
        f"least of {tokens[worst + 1]!r} ({of_next[worst]:.1%})."
    )
