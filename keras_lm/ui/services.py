"""What all pages and tabs share: the runs, the workers, and what is known of a text."""

import atexit
import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from keras_lm.data import text_work
from keras_lm.presentation.formatting import escape_markdown
from keras_lm.runs.exports import Exports
from keras_lm.runs.own_pace import slot_speed
from keras_lm.runs.supervisor import RunSummary, Supervisor, disk_in_words
from keras_lm.runs.workers import WorkerPool
from keras_lm.settings import estimates
from keras_lm.settings.config import ConfigError, DataConfig
from keras_lm.settings.estimates import Speed
from keras_lm.storage.files import DamagedFile, read_json
from keras_lm.storage.run_folder import RunFolder
from keras_lm.storage.run_names import list_runs
from keras_lm.system import machine
from keras_lm.system.paths import runs_folder

MOST_TOKENIZER_BYTES = 16 * 2**20
OWNER = "owner"  # in the session
SPEED_SECONDS = 10.0  # until the newest runs are looked at again


@st.cache_resource
def supervisor() -> Supervisor:
    """The runs of this installation."""
    return Supervisor(runs_folder())


@st.cache_resource
def worker_pool() -> WorkerPool:
    """The processes that generate."""
    pool = WorkerPool(supervisor().root / "worker.log")
    atexit.register(pool.close)
    return pool


@st.cache_resource
def exports() -> Exports:
    """The processes that write models in other formats."""
    return Exports()


@dataclass(frozen=True)
class TextFacts:
    """What the page shows of a text before a run reads it.

    Attributes:
        vocab_size: distinct tokens.
        train_tokens, validation_tokens: lengths of the two parts.
        unigram_entropy: nats per token, of a guess by frequency alone.
        excerpt: the beginning.
    """

    vocab_size: int
    train_tokens: int
    validation_tokens: int
    unigram_entropy: float
    excerpt: str


def read_tokenizer(data: DataConfig) -> dict:
    """The tokenizer of the run whose model is gone on with; ConfigError when it cannot be read."""
    file = RunFolder(Path(data.init_from).parent).tokenizer_file
    problem = f"{file.name} is not there."
    try:
        if (found := read_json(file, MOST_TOKENIZER_BYTES)) is not None:
            return found
    except DamagedFile as error:
        problem = str(error)
    raise ConfigError(f"The model to go on with lacks its tokenizer: {problem} Take another model.")


@st.cache_data(show_spinner=False, max_entries=20)
def text_facts(data: DataConfig, context_length: int) -> TextFacts:
    """Reads and tokenizes the text; ValueError with one sentence when it cannot be used."""
    known = read_tokenizer(data) if data.init_from else None
    return TextFacts(**text_work.ask("facts", data, context_length=context_length, known=known))


@st.cache_resource(show_spinner=False)
def _measured_flops_per_second() -> float:
    return machine.matrix_flops_per_second()


def matrix_flops_per_second() -> float:
    """The machine's speed, measured once; until that works, an ordinary machine's."""
    try:
        return _measured_flops_per_second()
    except (OSError, subprocess.SubprocessError):
        return estimates.REFERENCE_FLOPS


@st.cache_resource(show_spinner=False, ttl=SPEED_SECONDS)
def machine_speed() -> Speed:
    """How fast a run will be here: as measured, and as its own runs were."""
    return slot_speed(matrix_flops_per_second(), supervisor().summaries())


def owner() -> str:
    """Whose the runs of this tab are: those of several take turns."""
    return st.session_state.setdefault(OWNER, f"page {os.urandom(6).hex()}")


@contextlib.contextmanager
def shown_disk_errors(where: DeltaGenerator | None = None) -> Iterator[None]:
    """Shows in a sentence what the disk or the supervisor refuses.

    Args:
        where: a container with room for a sentence; None: where everything is drawn.
    """
    try:
        with disk_in_words():
            yield
    except ValueError as error:
        (where or st).error(escape_markdown(str(error)))


def runs_with_models() -> list[RunSummary]:
    """The runs that have a model to use, newest first."""
    folders = (f for f in list_runs(supervisor().root) if f.has_model)
    found = (supervisor().summary(folder.run_id) for folder in folders)
    return [summary for summary in found if summary is not None]
