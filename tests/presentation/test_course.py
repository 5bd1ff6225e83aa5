"""The course of a run in words."""

import dataclasses

import pytest

from keras_lm.presentation.course import course_of, describe_course, until_milestone
from keras_lm.settings.presets import QUICK_START

STATUS = {"state": "training", "vocab_size": 78}


def curve(*points: tuple[int, float] | tuple[int, float, float]) -> list[dict]:
    """Events of metrics from steps, losses and perhaps validation losses."""
    names = ("step", "loss", "val_loss")
    return [{"kind": "metrics"} | dict(zip(names, point, strict=False)) for point in points]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (curve((10, 4.25)), "Step 10: training loss 4.25."),
        (curve((10, 4.25), (20, 4.0)), "Step 20: training loss 4.00, still falling."),
        (curve((10, 4.0), (20, 3.93)), "Step 20: training loss 3.93, level."),
        (curve((10, 4.0), (20, 3.9, 3.95)), "Step 20: validation 3.95, still falling."),
        (
            curve((200, 2.5, 2.5), (400, 2.0, 1.92)),
            "Step 400: validation 1.92, best so far, still falling.",
        ),
        (
            curve((200, 2.5, 1.92), (400, 2.0, 1.93)),
            "Step 400: validation 1.93, lowest 1.92 at step 200, level.",
        ),
        (
            curve((290, 2.5, 2.5), (440, 1.6, 2.01), (600, 1.2, 2.03)),
            "Step 600: validation 2.03, lowest 2.01 at step 440, level.",
        ),
        (
            curve((290, 2.5, 2.5), (450, 1.6, 2.01), (600, 1.2, 2.03)),
            "Step 600: validation 2.03, lowest 2.01 at step 450, still falling.",
        ),
        (
            curve((200, 2.5, 2.0), (400, 2.0, 1.9), (600, 1.8, 2.0), (1800, 1.7, 2.1)),
            "Step 1,800: validation 2.10, lowest 1.90 at step 400, rising.",
        ),
    ],
    ids=range(9),
)
def test_step_loss_and_trend_are_said(events, words):
    assert describe_course(QUICK_START, STATUS, events).startswith(f"{words} As unsure as")


def test_how_sure_the_model_is_is_counted_in_the_tokenizers_units():
    events = curve((10, 4.0, 1.2238))  # ln 3.4
    letters = dataclasses.replace(QUICK_START, data=QUICK_START.data.changed(tokenizer="char"))
    said = describe_course(letters, STATUS, events)
    assert said.endswith(" As unsure as choosing among 3.4 characters; it began with 78.")
    pieces = dataclasses.replace(QUICK_START, data=QUICK_START.data.changed(tokenizer="gpt2"))
    said = describe_course(pieces, {}, curve((10, 4.0, 8.3567)))
    assert said.endswith(" As unsure as choosing among 4,259 tokens.")


def test_nothing_is_said_before_the_first_point_or_without_settings():
    sample = [{"kind": "sample", "step": 1, "prompt": "a", "text": "b"}]
    assert describe_course(QUICK_START, STATUS, sample) == ""
    assert describe_course(None, STATUS, curve((10, 4.0))) == ""


def test_a_training_loss_is_a_mean_over_a_tenth_of_the_steps():
    course = course_of(QUICK_START, STATUS, curve((80, 9.0), (90, 9.0), (95, 2.0), (100, 4.0)))
    assert course is not None and course.now.loss == 3.0


@pytest.mark.parametrize("every", [1, 7, 60, 250])
@pytest.mark.parametrize("validates", [True, False])
def test_a_run_is_spoken_of_once_in_each_tenth(every, validates):
    steps, loss = range(every, 1000 + every, every), 2.0
    events = curve(*((s, loss, loss) if validates else (s, loss) for s in steps))
    ends = [len(until_milestone(events[:count], 1000)) for count in range(len(events) + 1)]
    assert ends == sorted(ends) and ends[0] == 0 and ends[1] == 1  # the first point at once
    tenths = {10 * s // 1000 for s in steps}
    assert len(set(ends)) - 1 == len(tenths) <= 11


def test_validations_are_what_is_spoken_of_where_there_are_any():
    events = curve((10, 4.0), (90, 3.0), (110, 2.9), (250, 2.0, 2.1), (260, 2.0), (310, 1.9))
    assert len(until_milestone(events[:3], 1000)) == 3
    assert len(until_milestone(events, 1000)) == 4
