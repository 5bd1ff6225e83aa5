"""Under a model's text: what of it was copied from the text it was trained on."""

import html

import streamlit as st

from keras_lm.data import text_work
from keras_lm.data.copies import WORD
from keras_lm.settings.config import DataConfig

RUN_LENGTH = 4  # words
SHOWN_COPY = 120  # characters
LONG_COPY, LONG_COPY_WORDS = 40, 8  # shorter ones happen to anybody who writes the language


@st.cache_data(max_entries=100, show_spinner=False)
def training_size(data: DataConfig) -> int:
    """How many bytes of its text a run trains on."""
    return text_work.ask("training_size", data)["num_bytes"]


@st.cache_data(max_entries=1_000, show_spinner=False)
def compare(data: DataConfig, sample: str) -> tuple[str, float | None]:
    """The sample's longest copy from the training text, and how many of its phrases are new."""
    size = training_size(data)
    found = text_work.ask("copies", data, num_bytes=size, sample=sample, run_length=RUN_LENGTH)
    return found["copy"], found["novelty"]


def show_copies(data: DataConfig | None, sample: str, brief: bool = False) -> None:
    """Writes the line; nothing when the training text is not known.

    Args:
        data: of the training text.
        sample: what the model wrote.
        brief: only when a copy is long enough to say something, and without the phrases.
    """
    if data is None or not sample or (brief and not is_long(sample)):
        return
    try:
        copy, novelty = compare(data, sample)
    except ValueError:
        if not brief:
            st.caption("Its training text is gone, so copies from it cannot be found.")
        return
    if brief and not is_long(copy):
        return
    shown = describe_copy(copy) + ("" if brief or novelty is None else describe_novelty(novelty))
    st.html(f'<div style="font-size: 0.8rem; opacity: 0.75; overflow-wrap: anywhere">{shown}</div>')


def is_long(copy: str) -> bool:
    """Whether a copy so long is more than chance."""
    return len(copy) >= LONG_COPY or len(WORD.findall(copy)) >= LONG_COPY_WORDS


def describe_copy(copy: str) -> str:
    """A sentence about the longest copy, as HTML."""
    if not copy:
        return "Copied from the training text: nothing."
    shown = copy if len(copy) <= SHOWN_COPY else f"{copy[:SHOWN_COPY]}…"
    characters = f"{len(copy):,} character{'' if len(copy) == 1 else 's'}"
    quoted = html.escape(" ".join(shown.split()))
    return f"Copied from the training text: at most {characters} in a row (“{quoted}”)."


def describe_novelty(novelty: float) -> str:
    """A sentence about the phrases of four words."""
    if novelty in (0.0, 1.0):
        return f" {'All' if novelty else 'None'} of its four-word phrases are new."
    # Neither all nor none of them, so never rounded to that.
    percent = min(99, max(1, round(100 * novelty)))
    return f" {percent}% of its four-word phrases are new."
