"""What all pages and tabs share: the runs, the workers, and what is known of a text."""

import atexit
import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import streamlit as st

from keras_lm import corpus, estimates, machine, text_work
from keras_lm.config import DataConfig, RunConfig
from keras_lm.files import RUNS_VARIABLE, path_from_environment
from keras_lm.presets import TITLES, nearest_preset
from keras_lm.run_folder import list_runs
from keras_lm.runs.supervisor import PROJECT, RunSummary, Supervisor, disk_in_words
from keras_lm.runs.workers import WorkerPool
from keras_lm.ui.fields import show_value

CHART_HEIGHT = 290  # pixels: a run is seen as a whole on a laptop's 720
ROW_HEIGHT, NUMBERS_HEIGHT = 44, 62  # pixels, of a row of buttons and one of numbers
MOST_CHANGES = 4  # named in a title


@st.cache_resource
def supervisor() -> Supervisor:
    """The runs of this installation."""
    return Supervisor(path_from_environment(RUNS_VARIABLE) or PROJECT / "runs")


@st.cache_resource
def worker_pool() -> WorkerPool:
    """The processes that generate."""
    pool = WorkerPool(supervisor().root / "worker.log")
    atexit.register(pool.close)
    return pool


@dataclass(frozen=True)
class TextFacts:
    """What the page shows of a text before a run reads it.

    Attributes:
        vocab_size: distinct tokens.
        train_tokens, validation_tokens: lengths of the two parts.
        unigram_entropy: nats a token, of a guess by frequency alone.
        excerpt: the beginning.
    """

    vocab_size: int
    train_tokens: int
    validation_tokens: int
    unigram_entropy: float
    excerpt: str


@st.cache_data(show_spinner=False, max_entries=20)
def text_facts(data: DataConfig, context_length: int) -> TextFacts:
    """Reads and tokenizes the text; ValueError with one sentence when it cannot be used."""
    return TextFacts(**text_work.ask("facts", data, context_length=context_length))


@st.cache_resource(show_spinner=False)
def _measured_flops_per_second() -> float:
    return machine.matrix_flops_per_second()


def matrix_flops_per_second() -> float:
    """The machine's speed, measured once; until that works, an ordinary machine's."""
    try:
        return _measured_flops_per_second()
    except (OSError, subprocess.SubprocessError):
        return estimates.REFERENCE_FLOPS


def describe_run(config: RunConfig | None) -> str:
    """A run in a few words: its text, its preset, and what differs from it."""
    if config is None:
        return "unreadable settings"
    preset, changes = nearest_preset(config)
    words = [f"{key.partition('.')[2]} {show_value(value)}" for key, value in changes.items()]
    if len(words) > MOST_CHANGES:
        words[MOST_CHANGES:] = [f"{len(words) - MOST_CHANGES} more"]
    return f"{text_title(config.data)} · {', '.join([TITLES[preset], *words])}"


def text_title(data: DataConfig) -> str:
    """What a text is called, without its author."""
    known = (corpus.BUILT_IN | corpus.CATALOGUE).get(data.data)
    return known.title.rpartition(", ")[0] if known else data.label


def plural(count: int, noun: str) -> str:
    """1 block, 2 blocks."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def escape_markdown(text: str) -> str:
    """The text as Streamlit's Markdown shows it to the letter, whatever is in it."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


@contextlib.contextmanager
def told_disk_errors() -> Iterator[None]:
    """Shows in a sentence what the disk or the supervisor refuses."""
    try:
        with disk_in_words():
            yield
    except ValueError as error:
        st.error(escape_markdown(str(error)))


def label_runs(summaries: list[RunSummary]) -> dict[str, str]:
    """Runs in a list: of each id, what it is and when it started; no two alike.

    Its state is left out, for a list's entry that changes is another one to Streamlit.
    """
    labels: dict[str, str] = {}
    for summary in summaries:
        day, clock, suffix = summary.run_id.split("-")
        when = f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}"
        label = f"{describe_run(summary.config)} · {when}"
        label += " · damaged" if summary.damage else ""
        labels[summary.run_id] = f"{label} · {suffix}" if label in labels.values() else label
    return labels


def runs_with_models() -> list[RunSummary]:
    """The runs that have a model to use, newest first."""
    folders = (f for f in list_runs(supervisor().root) if f.has_model)
    found = (supervisor().summary(folder.run_id) for folder in folders)
    return [summary for summary in found if summary is not None]


def show_seconds(seconds: float) -> str:
    """A duration for people: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
