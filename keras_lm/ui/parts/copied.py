"""Under a model's text: what of it was copied from the text it was trained on."""

import html
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, lru_cache

import streamlit as st

from keras_lm.data import text_work
from keras_lm.data.copies import WORD
from keras_lm.data.text_work import ReadingEnded
from keras_lm.presentation.formatting import escape_markdown
from keras_lm.settings.config import DataConfig
from keras_lm.ui.parts.fields import without_advice

RUN_LENGTH = 4  # words
SHOWN_COPY = 120  # characters
LONG_COPY, LONG_COPY_WORDS = 40, 8  # shorter ones happen to anybody who writes the language
POLL_SECONDS = 1.0
MOST_KNOWN = 1_000  # samples whose copies are remembered
UNREADABLE = "Copies from its training text cannot be found."
ENDED = (
    "The search for copies in the training text ended early, perhaps for lack of memory. It begins "
    "again when the page is opened again."
)

Copies = tuple[str, float | None]  # the longest copy, and how many of the phrases are new


@cache
def training_size(data: DataConfig) -> int:
    """How many bytes of its text a run trains on."""
    return text_work.ask("training_size", data)["num_bytes"]


@lru_cache(MOST_KNOWN)
def compare(data: DataConfig, sample: str) -> Copies:
    """The sample's longest copy from the training text, and how many of its phrases are new."""
    size = training_size(data)
    found = text_work.ask("copies", data, num_bytes=size, sample=sample, run_length=RUN_LENGTH)
    return found["copy"], found["novelty"]


_one_at_a_time = threading.Lock()  # each search has the whole text in memory


_searches: dict[tuple[DataConfig, str], Future[Copies]] = {}


def search(data: DataConfig, sample: str) -> Future[Copies]:
    """What `compare` will find in a large text, while the page goes on.

    One that failed is given once, and begun again by who asks after that.
    """
    found: Future[Copies] = Future()

    def work() -> None:
        try:
            with _one_at_a_time:
                found.set_result(compare(data, sample))
        except Exception as error:
            found.set_exception(error)

    known = _searches.setdefault((data, sample), found)
    if known is found:
        if len(_searches) > MOST_KNOWN:
            _searches.pop(next(iter(_searches)), None)
        threading.Thread(target=work, daemon=True).start()
    elif known.done() and known.exception():
        _searches.pop((data, sample), None)
    return known


def show_copies(data: DataConfig | None, sample: str, brief: bool = False) -> None:
    """Writes the line; nothing when the training text is not known, or the run learned a task.

    For a large text it comes later, so that nobody waits for it.

    Args:
        data: of the training text.
        sample: what the model wrote.
        brief: only when a copy is long enough to say something, and without the phrases.
    """
    if data is None or data.task or not sample or (brief and not is_long(sample)):
        return
    if text_work.is_small(data):
        write_line(lambda: compare(data, sample), brief)
    elif (found := search(data, sample)).done():
        write_line(found.result, brief)
    else:
        st.fragment(wait_for_line, run_every=POLL_SECONDS)(found)


def wait_for_line(found: Future[Copies]) -> None:
    """Draws the page again, with the line, as soon as the text has been looked through."""
    if found.done():
        st.rerun()
    st.caption("Looking for copies in the training text, which is large.")


def write_line(find: Callable[[], Copies], brief: bool) -> None:
    """Writes what `find` finds; `brief` as for `show_copies`."""
    try:
        copy, novelty = find()
    except ValueError as error:
        if not brief:
            unreadable = escape_markdown(f"{UNREADABLE} {without_advice(error)}")
            st.caption(ENDED if isinstance(error, ReadingEnded) else unreadable)
        return
    if brief and not is_long(copy):
        return
    shown = describe_copy(copy) + ("" if brief or novelty is None else describe_novelty(novelty))
    st.html(f'<div style="font-size: 0.8rem; opacity: 0.75; overflow-wrap: anywhere">{shown}</div>')


def is_long(copy: str) -> bool:
    """Whether a copy so long is more than chance.

    Example:
        >>> is_long("the man"), is_long("the man who came to the door and then left")
        (False, True)
    """
    return len(copy) >= LONG_COPY or len(WORD.findall(copy)) >= LONG_COPY_WORDS


def describe_copy(copy: str) -> str:
    """A sentence about the longest copy, as HTML.

    Example:
        >>> describe_copy("the man")
        'Copied from the training text: at most 7 characters in a row (“the man”).'
    """
    if not copy:
        return "Copied from the training text: nothing."
    shown = copy if len(copy) <= SHOWN_COPY else f"{copy[:SHOWN_COPY]}…"
    characters = f"{len(copy):,} character{'' if len(copy) == 1 else 's'}"
    quoted = html.escape(" ".join(shown.split()))
    return f"Copied from the training text: at most {characters} in a row (“{quoted}”)."


def describe_novelty(novelty: float) -> str:
    """A sentence about the phrases of four words.

    Example:
        >>> describe_novelty(0.25)
        ' 25% of its four-word phrases are new.'
    """
    if novelty in (0.0, 1.0):
        return f" {'All' if novelty else 'None'} of its four-word phrases are new."
    # Neither all nor none of them, so never rounded to that.
    percent = min(99, max(1, round(100 * novelty)))
    return f" {percent}% of its four-word phrases are new."
