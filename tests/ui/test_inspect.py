"""The Inspect page's shaded text: hostile tokens stay text, colours follow the probabilities."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from keras_lm.ui.inspect import DARKEST, FLOOR, shaded, unpack
from keras_lm.ui.maps import describe

HOSTILE = ["<b>", "</span>", '" onmouseover="x', "&lt;", "<script>", "\n", "'", "\ufffd", "é"]


def result(tokens, of_next):
    rows = len(tokens)
    return {
        "tokens": tokens,
        "scores": {
            "of_next": of_next,
            "entropies": [1.5] * rows,
            "alternatives": [["<i>", "a"]] * rows,
            "probabilities": [[0.5, 0.25]] * rows,
        },
    }


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def test_hostile_tokens_stay_text():
    made = result(HOSTILE, [0.5] * (len(HOSTILE) - 1))
    parsed = Parsed(shaded(made))
    assert [tag for tag, _ in parsed.tags] == ["div"] + ["span"] * len(HOSTILE)
    assert parsed.text == [token.replace("\n", "↵\n") for token in HOSTILE]
    for place, (_, attributes) in enumerate(parsed.tags[1:]):
        assert set(attributes) == {"style", "title"}
        assert attributes["title"] == describe(made, place)
        assert repr(HOSTILE[place]) in attributes["title"]


@pytest.mark.parametrize(
    ("probability", "opacity"),
    [(1.0, 0.0), (FLOOR**0.5, DARKEST / 2), (FLOOR, DARKEST), (FLOOR / 2, DARKEST), (0, DARKEST)],
)
def test_the_less_likely_the_more_coloured(probability, opacity):
    tags = Parsed(shaded(result(["a", "b"], [probability]))).tags
    assert tags[1][1]["style"] == ""  # nothing foretells the first
    alpha = float(re.search(r", ([\d.]+)\)", tags[2][1]["style"])[1])
    assert alpha == pytest.approx(opacity, abs=0.006)


def test_what_is_packed_is_unpacked():
    from keras_lm.inspection import pack

    x = np.random.default_rng(1).random((2, 3, 5)).astype("float16")
    np.testing.assert_array_equal(unpack(pack(x)), x)
    assert unpack(pack(x[:, :, :0])).shape == (2, 3, 0)


def page_of_linear():
    """All below the text, of numbers that stand for a model of three blocks with slots."""
    import numpy as np
    import streamlit as st

    from keras_lm.inspection import pack
    from keras_lm.ui import inspect

    random, tokens, begin = np.random.default_rng(1), [*"abc\n<", "<b>"], 1
    rows, count = len(tokens) - begin, len(tokens)

    def guesses(*shape):
        return {
            "alternatives": random.choice(tokens, shape).tolist(),
            "probabilities": random.random(shape).tolist(),
        }

    st.session_state.setdefault("inspect.token", count)
    st.session_state.setdefault("inspect.block", 2)
    inspect.draw_result(
        {
            "tokens": tokens,
            "left_out": 3,
            "unknown": ["\u2603"],
            "perplexity": 3.21,
            "bits_per_byte": 1.12,
            "scores": guesses(count, 5)
            | {"of_next": random.random(count - 1).tolist(), "entropies": [1.0] * count},
            "token": st.session_state["inspect.token"],
            "block": st.session_state["inspect.block"],
            "num_blocks": 3,
            "begin": begin,
            "end": count,
            "insides": guesses(4, rows, 5) | {"of_next": random.random((4, rows - 1)).tolist()},
            "slots": pack(random.random((2, rows, 7))),
            "window": pack(random.random((2, rows, rows))),
        }
    )


def test_every_part_is_drawn_at_the_first_and_the_last_token():
    app = AppTest.from_function(page_of_linear, default_timeout=60).run()
    for place, shown in ((6, "what comes next"), (2, "token 2: 'c'"), (5, "token 5: '<b>'")):
        app.slider(key="inspect.token").set_value(place).run()
        assert not app.exception
        assert any(shown in text.value for text in app.text)
    assert [metric.value for metric in app.metric[:3]] == ["6", "3.21", "1.12"]
    assert len(app.get("vega_lite_chart")) == 6
    app.select_slider(key="inspect.head").set_value(1).run()
    assert not app.exception
