"""Samples with the probabilities beside them, and those in words and shades."""

import math

import pytest

from keras_lm.presentation.course import unit_of
from keras_lm.presentation.timeline import (
    Point,
    describe_window,
    read_timeline,
    thin,
    unsureness,
)
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import RunFolder

WINDOW = {"kind": "window", "step": 0, "tokens": ["T", "h", "e"]}


def sample(step, text="x"):
    return {"kind": "sample", "step": step, "prompt": "p", "text": text}


def likely(step, *values):
    return {"kind": "probabilities", "step": step, "of_next": [*values]}


def test_each_sample_has_those_of_its_own_step():
    events = [WINDOW, sample(10, "a"), likely(10, 0.1, 0.2), {"kind": "note", "message": "n"}]
    events += [sample(20, "b"), sample(30, "c"), likely(30, 0.3, 0.4)]
    found = read_timeline(events)
    assert found.tokens == ["T", "h", "e"]
    assert [(p.step, p.text, p.of_next) for p in found.points] == [
        (10, "a", [0.1, 0.2]),
        (20, "b", []),
        (30, "c", [0.3, 0.4]),
    ]


@pytest.mark.parametrize(
    "events",
    [
        [sample(10)],  # of earlier versions
        [sample(10), likely(10, 0.1, 0.2)],  # whose tokens are not known
        [WINDOW, sample(10), likely(10, 0.1)],  # too few, too many
        [WINDOW, sample(10), likely(10, 0.1, 0.2, 0.3)],
        [{**WINDOW, "tokens": []}, sample(10), likely(10)],
    ],
    ids=["earlier", "no tokens", "too few", "too many", "none"],
)
def test_what_does_not_fit_a_window_leaves_the_sample_alone(events):
    assert read_timeline(events).points == [Point(10, "p", "x", [])]


@pytest.mark.parametrize(
    "damaged",
    [
        {**WINDOW, "tokens": "The"},
        {**WINDOW, "tokens": ["T", 1]},
        {**WINDOW, "tokens": ["T", "\ud800"]},
        {"kind": "window", "step": 0},
        likely(10, 0.1, 1.5),
        likely(10, 0.1, -0.1),
        likely(10, 0.1, None),
        {"kind": "probabilities", "step": 10, "of_next": None},
        {"kind": "probabilities", "of_next": [0.1, 0.2]},
    ],
    ids=str,
)
def test_damaged_events_are_left_out_and_named(damaged, tmp_path):
    folder = RunFolder(tmp_path)
    for event in (damaged, sample(10)):
        folder.append_event(event)
    events, _ = folder.read_events()
    assert [event["kind"] for event in events] == ["sample", "note"]
    assert read_timeline(events).points == [Point(10, "p", "x", [])]


def test_points_are_thinned_evenly_with_both_ends():
    points = [Point(step, "", "", []) for step in range(1_000)]
    for most in (2, 3, 60, 999):
        steps = [point.step for point in thin(points, most)]
        assert (len(steps), steps[0], steps[-1]) == (most, 0, 999)
        gaps = [b - a for a, b in zip(steps, steps[1:], strict=False)]
        assert max(gaps) - min(gaps) <= 1
    assert thin(points[:5], 5) == points[:5] and thin([], 2) == []


def test_the_words_say_how_unsure_and_of_what():
    assert unsureness([0.25] * 9) == pytest.approx(4.0)
    assert math.isfinite(unsureness([0.0, 1.0]))
    words = describe_window(["x", "a", "\n", "<b>"], [0.5, 0.0001, 0.5])
    assert words.startswith("As unsure as when choosing among 34.2 tokens.")
    assert "Surest of 'a' (50.0%), least of '\\n' (0.0%)." in words
    words = describe_window(["x", "a"], [0.5], unit_of(QUICK_START))
    assert words.startswith("As unsure as when choosing among 2.0 tokens.")
