"""The text of small runs, and a whole one of them."""

import dataclasses

import pytest

from keras_lm.data.corpus import prepare
from tests.training.small_run import CONFIG, PLAIN, leave_out_xla, train


@pytest.fixture(scope="session")
def corpus():
    """The text of CONFIG, of which little is validated."""
    prepared = prepare(CONFIG.data, CONFIG.model.context_length)
    return dataclasses.replace(prepared, validation=prepared.validation[:100])


@pytest.fixture
def quick(monkeypatch):
    """Leaves XLA's compilation out, where a test is about something else."""
    leave_out_xla(monkeypatch)


@pytest.fixture(scope="session")
def straight(tmp_path_factory, corpus):
    """A whole run of PLAIN without XLA."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_out_xla(monkeypatch)
        return train(tmp_path_factory.mktemp("straight"), corpus, monkeypatch, PLAIN)
