"""What a run's folder says while a large text is read, and that it can be stopped then."""

import io

import pytest

from keras_lm.commands import preparing
from keras_lm.data import preparation
from keras_lm.data.texts import STDIN
from keras_lm.settings.config import ConfigError, DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage.run_folder import RunFolder

SENTENCE = "Tokenizing the text: 58%, about 5 min left."


@pytest.fixture
def folder(tmp_path):
    found = RunFolder(tmp_path / "run")
    found.create()
    found.write_status(state="preparing")
    return found


@pytest.fixture
def saying(monkeypatch, folder):
    """Preparing says a sentence; gives what the status has then."""
    seen, prepare = [], preparation.prepare

    def talks(data, length, source, known, report):
        report(SENTENCE)
        seen.append(folder.read_status()["reading"])
        return prepare(data, length, source, known, report)

    monkeypatch.setattr(preparation, "prepare", talks)
    return seen


def test_the_status_says_how_far_the_text_is_read(folder, saying, capsys):
    preparing.prepare(RunConfig(ModelConfig(), DataConfig("alice"), TrainingConfig()), None, folder)
    assert saying == [SENTENCE] and folder.read_status()["reading"] == ""
    assert SENTENCE in capsys.readouterr().err


@pytest.mark.parametrize("request_", ["stop", "pause"])
def test_a_run_is_stopped_while_its_text_is_read(folder, saying, request_):
    folder.request(request_)
    config = RunConfig(ModelConfig(), DataConfig("alice"), TrainingConfig())
    with pytest.raises(KeyboardInterrupt):
        preparing.prepare(config, None, folder)
    assert not saying


def test_standard_input_stays_in_memory_and_has_a_limit(folder, monkeypatch):
    class Input:
        buffer = io.BytesIO(b"a text")

    monkeypatch.setattr(preparing.sys, "stdin", Input)
    config = RunConfig(ModelConfig(), DataConfig(STDIN, max_text_mb=20_000), TrainingConfig())
    found, source = preparing.with_standard_input(config, folder)
    assert source == b"a text" and found.data.data == str(folder.text_file)
    assert (found.data.max_text_mb, found.data.shard_from_mb) == (1024, 1024)
    other = RunConfig(config.model, DataConfig("alice"), config.training)
    assert preparing.with_standard_input(other, folder) == (other, None)
    several = RunConfig(config.model, DataConfig("-\nalice"), config.training)
    with pytest.raises(ConfigError, match="--data - must stand alone"):
        preparing.with_standard_input(several, folder)
