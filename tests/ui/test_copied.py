"""What is said about copies under a model's text."""

import threading
import time

import pytest
from streamlit.testing.v1 import AppTest

from keras_lm.data import text_work, texts
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


def refuse(path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


# What has become of the training text, and what is said of it.
UNREADABLE = {
    "removed": (lambda path: path.unlink(), "There is no file"),
    "a folder now": (lambda path: (path.unlink(), path.mkdir()), "has no text files."),
    "another encoding": (lambda path: path.write_bytes(b"caf\xe9 au lait"), "is not UTF-8"),
    "emptied": (lambda path: path.write_bytes(b""), "is empty."),
    "too large": (lambda path: path.write_bytes(b"a " * 600), "at most 0.001 MB are accepted."),
    "refused": (lambda path: None, "cannot be read: Permission denied."),
}


@pytest.mark.parametrize(
    ("reason", "brief"), [("removed", True), *((reason, False) for reason in UNREADABLE)]
)
def test_why_a_text_cannot_be_read_is_said_under_generated_texts_only(
    reason, brief, tmp_path, monkeypatch
):
    spoil, words = UNREADABLE[reason]
    path = tmp_path / "a. text.txt"
    path.write_text(LONG)
    spoil(path)
    if reason == "refused":
        monkeypatch.setattr(texts, "open_plain", refuse)
    program = (
        "from keras_lm.settings.config import DataConfig\n"
        "from keras_lm.ui.parts.copied import show_copies\n"
        f"data = DataConfig(data={str(path)!r}, max_text_mb=0.001)\n"
        f"show_copies(data, {LONG!r}, brief={brief})"
    )
    page = AppTest.from_string(program).run(timeout=30)
    assert not page.exception
    said = [caption.value.replace("\\", "") for caption in page.caption]
    assert len(said) == (not brief)
    for sentence in said:
        assert sentence.startswith("Copies from its training text cannot be found. ")
        assert words in sentence and path.name in sentence
        assert ("There is no file" in sentence) == (reason == "removed")
        assert "Name a" not in sentence and "Save it" not in sentence  # advice for the form


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


def test_of_a_text_in_shards_it_is_said_that_copies_are_not_looked_for(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(LONG * 30)
    program = (
        "from keras_lm.settings.config import DataConfig\n"
        "from keras_lm.ui.parts.copied import show_copies\n"
        f"show_copies(DataConfig(data={str(path)!r}, shard_from_mb=0.001), {LONG!r})\n"
    )
    page = AppTest.from_string(program).run(timeout=30)
    (said,) = (caption.value.replace("\\", "") for caption in page.caption)
    assert said == (
        "Copies from its training text cannot be found. The text has more than 0.001 MB, in which "
        "copies are not looked for."
    )
