"""Under a model's text: what of it stands in the text it was trained on."""

import html

import streamlit as st

from keras_lm import corpus
from keras_lm.config import DataConfig
from keras_lm.memorization import WORD, TrainingText

RUN_LENGTH = 4  # words
SHOWN_COPY = 120  # characters


@st.cache_resource(max_entries=3, show_spinner=False)
def training_text(data: DataConfig) -> TrainingText:
    """What a run trains on, without its validation part; ValueError when it cannot be read."""
    prepared = corpus.prepare(data, context_length=1)
    return TrainingText(prepared.tokenizer.decode(prepared.train.tolist()))


@st.cache_data(max_entries=1_000, show_spinner=False)
def compare(data: DataConfig, sample: str) -> tuple[str, float | None]:
    """The sample's longest copy from the training text, and how many of its runs are new."""
    text = training_text(data)
    return text.longest_copy(sample), text.novelty(sample, RUN_LENGTH)


def tell(data: DataConfig | None, sample: str) -> None:
    """Writes the line; nothing when the training text is not known."""
    if data is None or not sample:
        return
    try:
        copy, novelty = compare(data, sample)
    except ValueError:
        st.caption("Its training text is gone, so copies from it cannot be found.")
        return
    words = len(WORD.findall(copy))
    shown = copy if len(copy) <= SHOWN_COPY else f"{copy[:SHOWN_COPY]}…"
    told = (
        f"Longest stretch that stands in the training text: {len(copy):,} characters, "
        f"{words:,} word{'' if words == 1 else 's'}: <q>{html.escape(shown)}</q>."
    )
    if novelty is not None:
        told += f" {novelty:.0%} of its runs of {RUN_LENGTH} words stand nowhere in it."
    st.html(f'<div style="font-size: 0.8rem; opacity: 0.75; overflow-wrap: anywhere">{told}</div>')
