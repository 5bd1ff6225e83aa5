"""Prompts to begin with: the text's own words, from its first bytes only, whatever it is."""

import gzip
import os

import pytest

from keras_lm.data.texts import TEXTS, load_text
from keras_lm.settings.config import DataConfig
from keras_lm.ui.parts.beginnings import DEFAULT_TEXT, PROMPTS, READ_BYTES, beginnings, to_look_into

PARAGRAPHS = [f"Number {n} was a sheep that stood\non the hill and looked about." for n in range(9)]
PROSE = "\n\n".join(paragraph.replace("\n", " ") for paragraph in PARAGRAPHS)


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if not text.url])
def test_those_of_a_built_in_text_stand_in_it(name):
    found = beginnings(DataConfig(data=name))
    text = " ".join(load_text(name).split())
    assert len(found) == PROMPTS and all(prompt in text for prompt in found)


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (PROSE.encode(), {}),
        (PROSE.replace("\n\n", "\r\n").encode(), {}),  # lines, no paragraphs
        (PROSE.encode("utf-16"), {}),
        (gzip.compress(PROSE.encode(), mtime=0), {}),
        (PROSE.replace("sheep", "brebis élevée").encode("latin-1"), {"encoding": "latin-1"}),
        (PROSE.encode() + b"\xe2\x82" * READ_BYTES, {}),  # cut within a character
    ],
)
def test_files_of_all_kinds_have_some(tmp_path, content, changes):
    (tmp_path / "text.txt").write_bytes(content)
    found = beginnings(DataConfig(data=str(tmp_path / "text.txt"), **changes))
    assert found == [f"Number {n} was a" for n in (0, 2, 4, 6)]
    cleaned = DataConfig(data=str(tmp_path / "text.txt"), cleaning="classic", **changes)
    assert beginnings(cleaned)[0] == "number 0 was a"


def test_only_the_beginning_is_read(tmp_path):
    path = tmp_path / "text.txt"
    with path.open("wb") as file:
        file.write(PROSE.encode() + b"\n\n")
        file.truncate(50 * 2**30)  # a sparse file, larger than any memory
    assert beginnings(DataConfig(data=str(path)))[0] == "Number 0 was a"


@pytest.mark.parametrize("content", [None, b"", b"\0" * 9, b"\x1f\x8b damaged", b"\n" * 99])
def test_there_may_be_none(tmp_path, content):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    assert beginnings(DataConfig(data=str(path))) == []
    assert beginnings(DataConfig(data=str(path), cleaning="classic")) == []


@pytest.mark.parametrize("content", ["1 2 3 4 5", "мой дядя\nсамых честных\nправил", "😀😀\n😀"])
def test_where_no_line_is_long_they_are_its_own_first_words(tmp_path, content):
    (tmp_path / "text.txt").write_text(content)
    (found,) = beginnings(DataConfig(data=str(tmp_path / "text.txt")))
    assert " ".join(content.split()).startswith(found) and 0 < len(found.split()) <= 4


def test_those_of_a_task_are_its_questions():
    found = beginnings(DataConfig("task:copy"))
    assert len(found) == PROMPTS and all(question.endswith("=") for question in found)


def test_what_is_looked_into_is_a_solved_instance_of_a_task_or_a_text_s_first_words(tmp_path):
    data = DataConfig("task:reverse")
    question = beginnings(data)[0]
    assert to_look_into(data) == question + question[:-1][::-1]
    (tmp_path / "text.txt").write_text("мой дядя\nсамых честных")
    assert to_look_into(DataConfig(data=str(tmp_path / "text.txt"))) == "мой дядя самых честных"
    assert to_look_into(DataConfig("gone.txt")) == to_look_into(None) == DEFAULT_TEXT


@pytest.mark.parametrize("encoding", ["nonsense", "hex"])
def test_an_encoding_that_there_is_not_gives_none(tmp_path, encoding):
    (tmp_path / "text.txt").write_text(PROSE)
    assert beginnings(DataConfig(data=str(tmp_path / "text.txt"), encoding=encoding)) == []


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "text.txt")
    assert beginnings(DataConfig(data=str(tmp_path / "text.txt"))) == []
