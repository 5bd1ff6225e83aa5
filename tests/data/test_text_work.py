"""What the page wants to know of a text: the same in this process and in one of its own."""

import re

import pytest

from keras_lm.data import corpus, text_work, texts
from keras_lm.data.copies import TrainingText
from keras_lm.data.reading import TextError
from keras_lm.settings.config import DataConfig


@pytest.fixture
def outside(monkeypatch):
    """Sends the work on every text to a process of its own; reading one here is an error."""
    monkeypatch.setattr(text_work, "SMALL_BYTES", -1)
    monkeypatch.setattr(corpus, "load_text", lambda *_: pytest.fail("was read in this process"))


@pytest.mark.parametrize("kind", ["char", "gpt2"])
def test_facts_and_copies_are_the_same_in_a_process_of_its_own(kind, outside, monkeypatch):
    data = DataConfig(data="alice", tokenizer=kind)
    sample = "Alice was not a bit hurt, and she jumped up on to her feet in a moment: she was new"
    questions = (
        ("facts", {"context_length": 64}),
        ("training_size", {}),
        ("copies", {"num_bytes": 100_000, "sample": sample, "run_length": 4}),
    )
    answers = [text_work.ask(do, data, **values) for do, values in questions]
    monkeypatch.undo()
    assert answers == [text_work.ask(do, data, **values) for do, values in questions]
    text = texts.load_text("alice")
    assert 0.89 * len(text) < answers[1]["num_bytes"] < 0.91 * len(text)
    assert answers[2]["copy"] == TrainingText(text).longest_copy(sample)


@pytest.mark.parametrize(
    "settings", [{}, {"init_from": "first.keras", "separator": "||"}], ids=["fresh", "taught"]
)
def test_the_end_of_the_text_is_not_what_was_trained_on(tmp_path, settings):
    """A model's separator need not occur in the text that it is taught."""
    path = tmp_path / "text.txt"
    path.write_text("é" * 90 + "x" * 10)
    data = DataConfig(data=str(path), **settings)
    size = text_work.ask("training_size", data)["num_bytes"]
    found = text_work.ask("copies", data, num_bytes=size, sample="ééx", run_length=4)
    assert (size, found) == (180, {"copy": "éé", "novelty": None})


def test_a_text_that_cannot_be_used_is_one_sentence_from_both(outside, monkeypatch):
    data = DataConfig(data="alice", max_text_mb=0.1)
    with pytest.raises(TextError, match="at most 0.1 MB") as caught:
        text_work.ask("facts", data, context_length=64)
    monkeypatch.undo()
    with pytest.raises(TextError, match=re.escape(str(caught.value))):
        text_work.ask("facts", data, context_length=64)


@pytest.mark.parametrize("program", ["false", "no/such/program"])
def test_a_process_that_ends_or_cannot_start_is_said(outside, monkeypatch, program):
    monkeypatch.setattr(text_work.sys, "executable", program)
    with pytest.raises(
        text_work.ReadingEnded, match="the process that reads it ended, .* a shorter text"
    ):
        text_work.ask("facts", DataConfig(), context_length=64)


def test_a_text_in_shards_is_not_read_for_the_page_and_the_command_is_said(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("words " * 500)
    data = DataConfig(data=str(path), shard_from_mb=0.001)
    advice = "python -m keras_lm train --data FILE --max-text-mb 20000 --run-dir NEW"
    with pytest.raises(TextError, match=f"than 0.001 MB, which the page does not read.*{advice}"):
        text_work.ask("facts", data, context_length=64)
