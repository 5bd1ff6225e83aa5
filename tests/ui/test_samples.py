"""What the browser gets of a run's samples: little, whatever the run has written."""

import json

import pytest

from keras_lm.presentation.timeline import DARKEST, Point, Timeline
from keras_lm.ui.parts.timeline import CUT, MOST_CHARACTERS, point_data

TOKENS = ["<b>", "\n", "a"]


@pytest.mark.parametrize("size", [0, MOST_CHARACTERS, MOST_CHARACTERS + 1, 100_000])
def test_a_long_sample_is_cut(size):
    found = point_data(Timeline(TOKENS, []), Point(10, "p", "<" * size, []))
    assert found["text"] == "<" * min(size, MOST_CHARACTERS) + CUT * (size > MOST_CHARACTERS)
    assert found["shades"] == [] and found["words"] == ""


def test_every_token_has_a_shade_the_first_none():
    found = point_data(Timeline(TOKENS, []), Point(10, "p", "t", [1.0, 0.0]))
    assert found["shades"] == [0.0, 0.0, DARKEST]
    assert "Surest of '\\n' (100.0%), least of 'a' (0.0%)." in found["words"]
    json.dumps(found, allow_nan=False)
