"""What all pages and tabs share: the runs, the workers, and what is known of a text."""

import atexit
import contextlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import streamlit as st

from keras_lm import estimates, machine, text_work
from keras_lm.config import DataConfig, RunConfig
from keras_lm.files import RUNS_VARIABLE, path_from_environment
from keras_lm.run_folder import list_runs
from keras_lm.runs.supervisor import PROJECT, RunSummary, Supervisor, disk_in_words
from keras_lm.runs.workers import WorkerPool


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


@st.cache_data(show_spinner="Reading the text", max_entries=20)
def text_facts(data: DataConfig, context_length: int) -> TextFacts:
    """Reads and tokenizes the text; ValueError with one sentence when it cannot be used."""
    return TextFacts(**text_work.ask("facts", data, context_length=context_length))


@st.cache_resource
def _measured_flops_per_second() -> float:
    return machine.matrix_flops_per_second()


def matrix_flops_per_second() -> float:
    """The machine's speed, measured once; until that works, an ordinary machine's."""
    try:
        return _measured_flops_per_second()
    except (OSError, subprocess.SubprocessError):
        return estimates.REFERENCE_FLOPS


def describe_run(config: RunConfig | None) -> str:
    """A run's settings in a few words."""
    if config is None:
        return "unreadable settings"
    model = config.model
    return (
        f"{config.data.label}, {config.data.tokenizer}, {model.attention}, "
        f"{model.num_blocks} block{'s' if model.num_blocks > 1 else ''} of {model.d_model}"
    )


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
    """Runs in a list: of each id, when it started and what it is; no two alike.

    Its state is left out, for a list's entry that changes is another one to Streamlit.
    """
    labels: dict[str, str] = {}
    for summary in summaries:
        day, clock, suffix = summary.run_id.split("-")
        when = f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}:{clock[4:]}"
        label = f"{when} · {describe_run(summary.config)}"
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
