"""Prompts to begin with: how some paragraphs of a model's training text begin."""

import re
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import streamlit as st

from keras_lm.data.corpus import clean
from keras_lm.data.reading import PACKING_ERRORS, unpacked
from keras_lm.data.records import holds_records, texts_of_records
from keras_lm.data.task_corpus import TaskCorpus
from keras_lm.data.texts import SEVERAL, paths_of
from keras_lm.settings.config import DataConfig
from keras_lm.storage.files import open_plain

READ_BYTES = 20_000  # of a text that may have hundreds of megabytes
RECORDS = 20  # that are read, where the text is in records
PROMPTS, WORDS = 4, 4
DEFAULT_TEXT = "The man"  # of a model whose training text is not known
TITLE_LENGTH = 40  # characters: a line of prose is longer


@st.cache_data(max_entries=100, show_spinner=False)
def beginnings(data: DataConfig) -> list[str]:
    """The first words of some paragraphs, or lines, near the text's beginning.

    Where no line is long they are the text's own first words; none where it cannot be read.
    """
    if data.task:
        return TaskCorpus.of(data).questions(PROMPTS)
    try:
        path = paths_of(data.data.split(SEVERAL)[0])[0]
        with open_plain(path) as file:
            text = clean(_start(file, path, data), data.cleaning)
    # It is gone or damaged, has no letters, or an encoding that there is not.
    except (*PACKING_ERRORS, ValueError, LookupError):
        return []
    text = text.partition("*** START OF")[2] or text
    paragraphs = (
        [lines.strip().partition("\n")[0] for lines in re.split(r"\n[^\S\n]*\n", text)],
        text.splitlines(),
    )
    for lines in paragraphs:
        prose = [line.split() for line in lines if len(line) > TITLE_LENGTH and line[0].isalnum()]
        found = [*dict.fromkeys(" ".join(words[:WORDS])[:TITLE_LENGTH] for words in prose)]
        if len(found) >= PROMPTS:
            break
    if not found and "\0" not in text:
        found = [words] if (words := " ".join(text.split()[:WORDS])[:TITLE_LENGTH]) else []
    return found[:: max(1, len(found) // PROMPTS)][:PROMPTS]


@st.cache_data(max_entries=100, show_spinner=False)
def to_look_into(data: DataConfig | None) -> str:
    """What a model that was trained on this may be shown: of a task, an instance and its answer."""
    if data and data.task:
        return TaskCorpus.of(data).solved(1)[0]
    return first_beginning(data)


def first_beginning(data: DataConfig | None) -> str:
    """The first of the `beginnings`; where there is none, or no known text, DEFAULT_TEXT."""
    found = beginnings(data) if data else []
    return found[0] if found else DEFAULT_TEXT


def suggest(key: str, text: str) -> None:
    """Fills in a text unless the person, or the address, has another one than was suggested.

    Args:
        key: of the widget, and of what the address holds for it.
        text: to suggest.
    """
    state, suggested = st.session_state, f"{key}.suggested"
    if state.get(key) == state.get(suggested) and key not in st.query_params:
        state[key] = state[suggested] = text


def _start(file: BinaryIO, path: Path, data: DataConfig) -> str:
    """The beginning of a file's text."""
    if holds_records(path, data.text_field):
        texts = islice(texts_of_records(file, path, data.text_field), RECORDS)
        return "\n".join(text[:READ_BYTES] for text in texts)
    return _decode(unpacked(file).read(READ_BYTES) or b"", data.encoding)


def _decode(start: bytes, encoding: str) -> str:
    """The text of a file's first bytes, which may end within a character."""
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = start.decode(encoding or ("utf-16" if utf16 else "utf-8-sig"), errors="ignore")
    return text.replace("\r\n", "\n").replace("\r", "\n")
