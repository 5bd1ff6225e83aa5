"""The text of small runs, and a whole one of them."""

import dataclasses

import pytest

from keras_lm.data.corpus import prepare
from keras_lm.training import loop
from tests.training.small_run import CONFIG, PLAIN, WITHOUT_XLA, train


@pytest.fixture(scope="session")
def corpus():
    """The text of CONFIG, of which little is validated."""
    prepared = prepare(CONFIG.data, CONFIG.model.context_length)
    return dataclasses.replace(prepared, validation=prepared.validation[:100])


@pytest.fixture
def quick(monkeypatch):
    """Leaves XLA's compilation out, where a test is about something else."""
    monkeypatch.setattr(loop, "CompiledSteps", WITHOUT_XLA)


@pytest.fixture(scope="session")
def straight(tmp_path_factory, corpus):
    """A whole run of PLAIN without XLA."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(loop, "CompiledSteps", WITHOUT_XLA)
        return train(tmp_path_factory.mktemp("straight"), corpus, monkeypatch, PLAIN)
