"""What a run writes beside its samples about a fixed piece of the validation text."""

import dataclasses
import time

import numpy as np
import pytest

from keras_lm.data.task_corpus import TaskCorpus
from keras_lm.generation.bundle import load
from keras_lm.generation.inspection import probabilities_of_next
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training import held_out
from keras_lm.training import run as trainer
from keras_lm.training.held_out import MOST_TOKENS, HeldOutWindow, held_out_window

CONFIG = RunConfig(
    ModelConfig(context_length=7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5, dropout=0.2),
    DataConfig("alice", max_text_mb=1),
    TrainingConfig(
        steps=8,
        batch_size=2,
        log_every=4,
        eval_every=0,
        sample_every=5,
        sample_tokens=3,
        learning_rate=0.02,
        warmup_steps=1,
    ),
)


@pytest.fixture
def train(tmp_path, corpus, quick):
    """Trains a run of some settings into a folder of its own."""

    def make(name, corpus=corpus, **training) -> RunFolder:
        settings = dataclasses.replace(CONFIG.training, **training)
        folder = RunFolder(tmp_path / name)
        folder.create()
        config = dataclasses.replace(CONFIG, training=settings)
        assert trainer.train(folder, config, corpus, time.time()) == 0
        return folder

    return make


def of_kind(folder, kind):
    return [event for event in folder.read_events()[0] if event["kind"] == kind]


def test_each_sample_has_the_probabilities_of_one_fixed_text(train, corpus):
    folder = train("run")
    (window,) = of_kind(folder, "window")
    ids = corpus.validation[: CONFIG.model.context_length + 1]
    assert window["step"] == 0 and folder.read_events()[0][0] == window
    assert "".join(window["tokens"]) == corpus.tokenizer.decode(ids.tolist())
    samples, found = of_kind(folder, "sample"), of_kind(folder, "probabilities")
    steps = [4, 5, 8]  # the first point of the curve, every fifth, the last
    assert [e["step"] for e in samples] == [e["step"] for e in found] == steps
    own = probabilities_of_next(load(folder.model_file).model, ids)
    np.testing.assert_allclose(found[-1]["of_next"], own, rtol=5.1e-3)
    assert found[0]["of_next"] != found[-1]["of_next"]


def test_it_changes_no_loss_no_weight_and_no_sample(train, monkeypatch):
    def events_of(folder):
        clock = {"seconds", "train_seconds", "tokens_per_second", "memory_mb"}
        events = of_kind(folder, "metrics") + of_kind(folder, "sample")
        return [{k: v for k, v in event.items() if k not in clock} for event in events]

    written = train("with")
    monkeypatch.setattr(HeldOutWindow, "write_probabilities", lambda *_: None)
    bare = train("without")
    assert not of_kind(bare, "probabilities") and events_of(bare) == events_of(written)
    ours, theirs = (load(f.model_file).model.get_weights() for f in (written, bare))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("why", ["no validation", "no samples"])
def test_without_a_text_or_without_samples_nothing_is_written(train, corpus, why):
    if why == "no validation":
        bare = dataclasses.replace(corpus, validation=corpus.validation[:0])
        folder = train("run", bare, sample_every=5)
        assert of_kind(folder, "sample")
    else:
        folder = train("run", sample_every=0)
    assert not of_kind(folder, "window") and not of_kind(folder, "probabilities")


@pytest.mark.parametrize(
    ("context_length", "size"),
    [(2, 3), (MOST_TOKENS - 1, MOST_TOKENS), (MOST_TOKENS + 1, MOST_TOKENS + 1)],
)
def test_the_window_is_as_long_as_the_context_up_to_what_can_be_shown(context_length, size, corpus):
    whole = dataclasses.replace(corpus, validation=np.arange(1_000) % 20)
    window = held_out_window(whole, context_length)
    assert window.ids.tolist() == whole.validation[:size].tolist()


def test_of_a_task_nothing_is_guessed():
    corpus = TaskCorpus.of(DataConfig("task:recall"))
    assert len(corpus.validation) > 40 and len(held_out_window(corpus, 40).ids) == 0


def test_a_model_of_no_numbers_writes_nothing(tmp_path, corpus, monkeypatch):
    folder = RunFolder(tmp_path)
    for values, count in (([0.5, np.nan], 0), ([0.5, 0.1234567], 1)):
        monkeypatch.setattr(held_out, "probabilities_of_next", lambda *_, v=values: np.array(v))
        HeldOutWindow(corpus, corpus.validation[:3]).write_probabilities(folder, None, 10)
        assert len(folder.read_events()[0]) == count
    assert folder.read_events()[0][0]["of_next"] == [0.5, 0.123]
