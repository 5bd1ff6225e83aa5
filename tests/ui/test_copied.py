"""What is said about copies under a model's text."""

import threading
import time

import pytest
from streamlit.testing.v1 import AppTest

from keras_lm.data import text_work
from keras_lm.settings.config import DataConfig
from keras_lm.ui.parts import copied

LONG = "sat down with her among the candles and the flowers"


@pytest.mark.parametrize(
    ("copy", "novelty", "sentence"),
    [
        ("", None, "Copied from the training text: nothing."),
        ("a", 1.0, "at most 1 character in a row (“a”). All of its four-word phrases are new."),
        (" of\nher <i>", 0.0, "at most 11 characters in a row (“of her &lt;i&gt;”). None of its"),
        ("x" * 121, 0.995, f"at most 121 characters in a row (“{'x' * 120}…”). 99% of its"),
        ("x", 0.001, "(“x”). 1% of its four-word phrases are new."),
    ],
)
def test_the_sentences(copy, novelty, sentence):
    said = copied.describe_copy(copy)
    if novelty is not None:
        said += copied.describe_novelty(novelty)
    assert sentence in said


@pytest.mark.parametrize(
    ("sample", "full", "brief"),
    [
        (LONG, 1, 1),
        ("the cat is on the map of", 1, 0),
        ("", 0, 0),
    ],
)
def test_under_a_runs_samples_only_long_copies_are_mentioned(sample, full, brief, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(f"So the cat sat on a mat. She {LONG} once. " * 9)
    program = (
        "from keras_lm.settings.config import DataConfig\n"
        "from keras_lm.ui.parts.copied import show_copies\n"
        f"show_copies(DataConfig(data={str(path)!r}), {sample!r}, brief={{brief}})"
    )
    for is_brief, lines in ((False, full), (True, brief)):
        page = AppTest.from_string(program.format(brief=is_brief)).run(timeout=30)
        assert not page.exception
        assert len(page.get("html")) == lines
        assert bool(lines and not is_brief) == any(
            "four-word" in line.proto.body for line in page.get("html")
        )


@pytest.mark.parametrize("brief", [False, True])
def test_a_text_that_is_gone_is_said_under_generated_texts_only(brief):
    program = (
        "from keras_lm.settings.config import DataConfig\n"
        "from keras_lm.ui.parts.copied import show_copies\n"
        f"show_copies(DataConfig(data='no/such.txt'), {LONG!r}, brief={brief})"
    )
    page = AppTest.from_string(program).run(timeout=30)
    assert [caption.value for caption in page.caption] == [
        "Its training text is gone, so copies from it cannot be found."
    ] * (not brief)


def test_nobody_waits_until_a_large_text_is_looked_through(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text(LONG)
    may_end = threading.Event()

    def ask(do, *_, **values):
        assert may_end.wait(30)
        return {"num_bytes": len(LONG), "copy": values.get("sample"), "novelty": 0.0}

    monkeypatch.setattr(text_work, "SMALL_BYTES", -1)
    monkeypatch.setattr(text_work, "ask", ask)
    program = (
        "import streamlit as st\n"
        "from keras_lm.settings.config import DataConfig\n"
        "from keras_lm.ui.parts.copied import show_copies\n"
        f"show_copies(DataConfig(data={str(path)!r}), {LONG!r})\n"
        "st.text('The page is complete.')"
    )
    page = AppTest.from_string(program).run(timeout=10)
    assert [text.value for text in page.text] == ["The page is complete."]
    assert "Looking for copies" in page.caption[0].value and not page.get("html")
    may_end.set()
    for _ in range(100):
        if page.run(timeout=10).get("html"):
            break
    (line,) = page.get("html")
    assert f"at most {len(LONG)} characters" in line.proto.body and not page.caption


def test_a_search_that_ended_early_says_so_and_begins_again_at_the_next_look(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text(LONG)
    may_end, tries = threading.Event(), []

    def ask(do, *_, **values):
        tries.append(do)
        if len(tries) == 1:
            raise text_work.ReadingEnded("It ended.")
        assert may_end.wait(30)
        return {"num_bytes": len(LONG), "copy": values.get("sample"), "novelty": 0.0}

    monkeypatch.setattr(text_work, "SMALL_BYTES", -1)
    monkeypatch.setattr(text_work, "ask", ask)
    data = DataConfig(data=str(path))
    first = copied.search(data, LONG)
    with pytest.raises(text_work.ReadingEnded):
        first.result(30)
    page = AppTest.from_string(
        "from keras_lm.settings.config import DataConfig\n"
        "from keras_lm.ui.parts.copied import show_copies\n"
        f"show_copies(DataConfig(data={str(path)!r}), {LONG!r})"
    ).run(timeout=10)
    assert [caption.value for caption in page.caption] == [copied.ENDED] and len(tries) == 1
    assert "Looking for copies" in page.run(timeout=10).caption[0].value
    may_end.set()
    assert copied.search(data, LONG).result(30) == (LONG, 0.0)
    assert page.run(timeout=10).get("html") and not page.caption


def test_at_most_one_large_text_is_looked_through_at_a_time(tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_text(LONG)
    at_once, most = [], []

    def ask(do, *_, **values):
        at_once.append(do)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()
        return {"num_bytes": 9, "copy": values.get("sample"), "novelty": 0.0}

    monkeypatch.setattr(text_work, "ask", ask)
    data = DataConfig(data=str(path))
    searches = [copied.search(data, str(index)) for index in range(4)]
    assert [found.result(30)[0] for found in searches] == ["0", "1", "2", "3"]
    assert len(most) > 4 and max(most) == 1
