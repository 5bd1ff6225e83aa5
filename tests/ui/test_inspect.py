"""What the Inspect page says of a result: shades, sentences, tables in which tokens stay text."""

from html.parser import HTMLParser

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from keras_lm.presentation.timeline import DARKEST, FLOOR, shade
from keras_lm.ui.pages.inspect import note_on_slots, unpack, which
from keras_lm.ui.parts import maps
from keras_lm.ui.parts.tokens import describe

HOSTILE = ["<b>", "</span>", '" onmouseover="x', "&lt;", "<script>", "\n", "'", "\ufffd", "é"]


def result(tokens, token, **changes):
    """Of a model of one block that holds every token to be as likely."""
    rows = len(tokens)
    return {
        "tokens": tokens,
        "of_next": [[0.125] * (rows - 1), [0.25] * (rows - 1)],
        "entropies": [1.5] * rows,
        "alternatives": [[["<i>", "a"]] * rows] * 2,
        "probabilities": [[[0.5, 0.25]] * rows] * 2,
        "token": token,
        "num_blocks": 1,
        "begin": 0,
        "first": 0,
        "last": rows,
        **changes,
    }


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("token", range(1, len(HOSTILE) + 1))
def test_hostile_tokens_stay_text(token):
    shown = result(HOSTILE, token)
    tables = [draw(shown) for draw in (maps.expected, maps.top_guesses, maps.improvement)]
    for table in map(Parsed, tables):
        assert table.tags <= {"style", "div", "table", "tr", "th", "td", "code"}
    texts = Parsed(tables[0]).text
    assert repr("<i>") in texts and (token == len(HOSTILE) or repr(HOSTILE[token]) in texts)
    assert all(repr(text) in Parsed(tables[2]).text for text in HOSTILE[1:])


def test_the_token_in_the_text_is_marked_among_the_guesses_or_below_them():
    rows = maps.expected(result(["x", "a", "b"], 1)).split("<tr>")[1:]
    assert ["it is in the text" in row for row in rows] == [False, True]
    rows = maps.expected(result(["x", "a", "b"], 2)).split("<tr>")[1:]
    assert ["it is in the text" in row for row in rows] == [False, False, True]
    assert "25.0%" in rows[-1]
    assert "it is in the text" not in maps.expected(result(["x", "a", "b"], 3))


@pytest.mark.parametrize(
    ("probability", "opacity"),
    [(1.0, 0.0), (FLOOR**0.5, DARKEST / 2), (FLOOR, DARKEST), (FLOOR / 2, DARKEST), (0, DARKEST)],
)
def test_the_less_likely_the_more_coloured(probability, opacity):
    assert shade(probability) == pytest.approx(opacity, abs=0.006)


def test_a_token_is_described_with_what_was_expected():
    shown = result(["x", "a"], 1)
    assert "makes no guess" in describe(shown, 0)
    assert "token 1: 'a'" in describe(shown, 1) and "25.00%, surprise 2.0 bits" in describe(
        shown, 1
    )
    for token in (1, 2):
        assert "expected: '<i>' 50.0%, 'a' 25.0%" in describe(shown, token)
    assert "what follows the text" in describe(shown, 2)


def test_the_page_says_which_tokens_a_map_shows():
    tokens = [*"abcdefghijkl"]
    assert which(result(tokens, 3)) == "all 12 tokens are shown"
    assert "tokens 4 to 9 of 12" in which(result(tokens, 8, first=4, last=10))


def test_the_sentence_on_attention_names_what_the_head_looks_at_most():
    shown = result([*"abcdef"], 5, begin=1, first=2, last=6)
    looks, slots = np.zeros((4, 5), "float16"), np.zeros((4, 2), "float16")
    looks[2, :3], slots[2] = (0.5, 0.125, 0.25), (0.0625, 0.0625)  # of token 4
    assert maps.looked_at(shown, looks, slots) == (
        "Token 4 'e' looks most at 1 'b' (50%), 3 'd' (25%), 2 'c' (12%), the slots (12%)."
    )


@pytest.mark.parametrize(
    ("context_length", "slots", "said"),
    [
        (128, 0.0, "can never use its slots"),
        (127, 0.0, "context is 127"),
        (129, 0.0, "still empty"),
        (129, 0.1, "averages of what is older"),
    ],
)
def test_slots_that_hold_nothing_are_explained(context_length, slots, said):
    shown = result([*"ab"], 1, context_length=context_length, chunk_length=64)
    assert said in note_on_slots(shown, np.full((1, 2, 3), slots))
    assert note_on_slots(shown, np.zeros((1, 2, 0))) is None


def test_what_is_packed_is_unpacked():
    from keras_lm.generation.inspection import pack

    x = np.random.default_rng(1).random((2, 3, 5)).astype("float16")
    np.testing.assert_array_equal(unpack(pack(x)), x)
    assert unpack(pack(x[:, :, :0])).shape == (2, 3, 0)


def page_of_linear():
    """All below the text, of numbers that stand for a model of three blocks with slots."""
    import numpy as np
    import streamlit as st

    from keras_lm.generation.inspection import pack
    from keras_lm.ui.pages import inspect

    random, tokens = np.random.default_rng(1), [*"abc\n<", "<b>"]
    count, first, begin = len(tokens), 2, 1
    st.session_state.setdefault("inspect.token", count)
    st.session_state.setdefault("inspect.block", 2)
    inspect.draw_result(
        {
            "tokens": tokens,
            "left_out": 3,
            "unknown": ["\u2603"],
            "perplexity": 3.21,
            "bits_per_byte": 1.12,
            "of_next": random.random((4, count - 1)).tolist(),
            "entropies": [1.0] * count,
            "alternatives": random.choice(tokens, (4, count, 5)).tolist(),
            "probabilities": random.random((4, count, 5)).tolist(),
            "token": st.session_state["inspect.token"],
            "block": st.session_state["inspect.block"],
            "num_blocks": 3,
            "context_length": 20,
            "chunk_length": 2,
            "begin": begin,
            "first": first,
            "last": count,
            "slots": pack(random.random((2, count - first, 7))),
            "looks": pack(random.random((2, count - first, count - begin))),
        }
    )


def test_every_part_is_drawn_at_the_first_and_the_last_token():
    app = AppTest.from_function(page_of_linear, default_timeout=60)
    for token, shown in ((6, "to follow the text"), (3, "token 3,"), (5, "token '<b>'")):
        app.session_state["inspect.token"] = token
        app.run()
        assert not app.exception
        assert any(shown in text.value for text in app.text)
    assert [metric.value for metric in app.metric[:3]] == ["6", "3.21", "1.12"]
    assert len(app.get("vega_lite_chart")) == 2
    app.select_slider(key="inspect.head").set_value(1).run()
    assert not app.exception
