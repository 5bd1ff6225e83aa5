"""The text of small runs, and a whole one of them."""

import dataclasses
import functools

import pytest

from keras_lm.data.corpus import prepare
from keras_lm.generation.generator import Generator
from keras_lm.training import loop
from keras_lm.training.train_step import CompiledSteps
from tests.training.small_run import CONFIG, PLAIN, train


def leave_out_xla(monkeypatch, *what: type):
    """Runs go without XLA's compilation of `what`: CompiledSteps, or Generator of the samples."""
    for compiled in what:
        plain = functools.partial(compiled, jit_compile=False)
        monkeypatch.setattr(loop, compiled.__name__, plain)


@pytest.fixture(scope="session")
def corpus():
    """The text of CONFIG, of which little is validated."""
    prepared = prepare(CONFIG.data, CONFIG.model.context_length)
    return dataclasses.replace(prepared, validation=prepared.validation[:100])


@pytest.fixture
def quick(monkeypatch):
    """Leaves XLA's compilation out, where a test is about something else."""
    leave_out_xla(monkeypatch, CompiledSteps, Generator)


@pytest.fixture
def quick_samples(monkeypatch):
    """Leaves XLA's compilation out of the samples alone."""
    leave_out_xla(monkeypatch, Generator)


@pytest.fixture(scope="session")
def straight(tmp_path_factory, corpus):
    """A whole run of PLAIN without XLA."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_out_xla(monkeypatch, CompiledSteps, Generator)
        return train(tmp_path_factory.mktemp("straight"), corpus, monkeypatch, PLAIN)
