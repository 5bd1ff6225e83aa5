"""Prompts to begin with: how some paragraphs of a model's training text begin."""

import gzip
import re
import zlib
from pathlib import Path

import streamlit as st

from keras_lm.data import corpus
from keras_lm.data.reading import is_packed, text_files
from keras_lm.settings.config import DataConfig
from keras_lm.system.paths import cache_folder

READ_BYTES = 20_000  # of a text that may have hundreds of megabytes
PROMPTS, WORDS = 4, 4
TITLE_LENGTH = 40  # characters: a line of prose is longer


@st.cache_data(max_entries=100, show_spinner=False)
def beginnings(data: DataConfig) -> list[str]:
    """The first words of some paragraphs, or lines, near the text's beginning; maybe none."""
    try:
        path = _first_file(data.data.split(corpus.SEVERAL)[0])
        with (gzip.open if is_packed(path) else open)(path, "rb") as file:
            start = file.read(READ_BYTES)
        text = corpus.clean(_decode(start, data.encoding), data.cleaning)
    except (OSError, EOFError, ValueError, zlib.error):  # it is gone, damaged, or has no letters
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
    return found[:: max(1, len(found) // PROMPTS)][:PROMPTS]


def _first_file(data: str) -> Path:
    """Where the text of that name begins."""
    if data in corpus.BUILT_IN:
        return corpus.DATA_FOLDER / corpus.BUILT_IN[data].files[0]
    if data in corpus.CATALOGUE:
        return cache_folder() / f"{corpus.CATALOGUE[data].sha256[:16]}.txt"
    return text_files(data)[0]


def _decode(start: bytes, encoding: str) -> str:
    """The text of a file's first bytes, which may end within a character."""
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = start.decode(encoding or ("utf-16" if utf16 else "utf-8-sig"), errors="ignore")
    return text.replace("\r\n", "\n").replace("\r", "\n")
