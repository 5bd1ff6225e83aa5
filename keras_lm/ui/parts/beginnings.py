"""Prompts to begin with: how some paragraphs of a model's training text begin."""

import gzip
import re
import zlib

import streamlit as st

from keras_lm.data.corpus import clean
from keras_lm.data.reading import is_packed
from keras_lm.data.task_corpus import TaskCorpus
from keras_lm.data.texts import SEVERAL, paths_of
from keras_lm.settings.config import DataConfig
from keras_lm.storage.files import open_plain

READ_BYTES = 20_000  # of a text that may have hundreds of megabytes
PROMPTS, WORDS = 4, 4
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
        packed = is_packed(path)
        with open_plain(path) as file:
            start = (gzip.GzipFile(fileobj=file) if packed else file).read(READ_BYTES) or b""
        text = clean(_decode(start, data.encoding), data.cleaning)
    # It is gone or damaged, has no letters, or an encoding that there is not.
    except (OSError, EOFError, ValueError, LookupError, zlib.error):
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


def _decode(start: bytes, encoding: str) -> str:
    """The text of a file's first bytes, which may end within a character."""
    utf16 = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = start.decode(encoding or ("utf-16" if utf16 else "utf-8-sig"), errors="ignore")
    return text.replace("\r\n", "\n").replace("\r", "\n")
