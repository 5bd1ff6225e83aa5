"""A run inside its process: events, samples, pausing, resuming, failing."""

import dataclasses
import time

import numpy as np
import pytest

from keras_lm import run_folder, trainer
from keras_lm.bundle import load
from keras_lm.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.corpus import prepare
from keras_lm.run_folder import RunFolder

CONFIG = RunConfig(
    ModelConfig(context_length=7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5, dropout=0.2),
    DataConfig("alice", max_text_mb=1),
    TrainingConfig(
        steps=13,
        batch_size=3,
        gradient_accumulation=2,
        log_every=4,
        eval_every=0,
        sample_every=6,
        sample_tokens=5,
        checkpoint_every=5,
        warmup_steps=3,
    ),
)


@pytest.fixture(scope="module")
def corpus():
    prepared = prepare(CONFIG.data, CONFIG.model.context_length)
    return dataclasses.replace(prepared, validation=prepared.validation[:100])


def train(path, corpus, monkeypatch, config=CONFIG, report=lambda line: None) -> RunFolder:
    monkeypatch.setattr(trainer, "report_progress", report)
    folder = RunFolder(path)
    folder.create()
    trainer.train(folder, config, corpus, time.time())
    return folder


def told(folder: RunFolder) -> list[dict]:
    """The events without what depends on the clock and on the process."""
    clock = {"seconds", "train_seconds", "tokens_per_second", "memory_mb"}
    events, _ = folder.read_events()
    return [{k: v for k, v in event.items() if k not in clock} for event in events]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_paused_and_resumed_run_equals_the_straight_one_to_the_bit(
    tmp_path, corpus, monkeypatch, optimizer
):
    training = dataclasses.replace(CONFIG.training, optimizer=optimizer)
    config = dataclasses.replace(CONFIG, training=training)
    straight = train(tmp_path / "straight", corpus, monkeypatch, config)
    assert straight.read_status()["state"] == run_folder.FINISHED

    halting = RunFolder(tmp_path / "halting")
    for expected_step in (4, 8):  # pauses at points of the curve, which come every 4 steps
        train(halting.path, corpus, monkeypatch, config, lambda _: halting.request("pause"))
        assert halting.read_status()["state"] == run_folder.PAUSED
        assert halting.read_status()["step"] == expected_step
    train(halting.path, corpus, monkeypatch, config)
    assert halting.read_status()["state"] == run_folder.FINISHED

    assert told(halting) == told(straight)
    ours, theirs = (load(f.model_file).model.get_weights() for f in (halting, straight))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_run_begun_again_after_a_crash_repeats_from_its_checkpoint(tmp_path, corpus, monkeypatch):
    straight = train(tmp_path / "straight", corpus, monkeypatch)
    crashing = RunFolder(tmp_path / "crashing")

    def crash(line: str) -> None:
        if line.startswith("step 8/"):
            raise SystemExit  # nothing is saved on the way out

    with pytest.raises(SystemExit):
        train(crashing.path, corpus, monkeypatch, report=crash)
    assert [p.name for p in crashing.checkpoints.iterdir()] == ["step-00000005"]
    train(crashing.path, corpus, monkeypatch)
    assert told(crashing) == told(straight)


def test_stop_keeps_the_model_of_the_present_step(tmp_path, corpus, monkeypatch):
    folder = RunFolder(tmp_path)
    train(tmp_path, corpus, monkeypatch, report=lambda _: folder.request("stop"))
    status = folder.read_status()
    assert (status["state"], status["step"]) == (run_folder.STOPPED, 4)
    assert load(folder.model_file).config.vocab_size == corpus.tokenizer.vocab_size


def test_a_loss_that_is_not_a_number_ends_the_run_and_spares_the_model(
    tmp_path, corpus, monkeypatch
):
    folder = RunFolder(tmp_path)
    real_steps = trainer.Training.train_steps

    def poisoned(self, offsets):
        if folder.model_file.exists():  # from the checkpoint at step 5 on
            self.model.output_layer.kernel.assign(self.model.output_layer.kernel * np.nan)
        return real_steps(self, offsets)

    monkeypatch.setattr(trainer.Training, "train_steps", poisoned)
    train(tmp_path, corpus, monkeypatch)
    status = folder.read_status()
    assert status["state"] == run_folder.FAILED
    assert "diverged" in status["message"] and "learning rate" in status["message"]
    assert all(np.isfinite(w).all() for w in load(folder.model_file).model.get_weights())


def test_a_fault_is_one_sentence_in_the_status_and_a_traceback_in_the_log(
    tmp_path, corpus, monkeypatch, capsys
):
    monkeypatch.setattr(trainer, "create_optimizer", lambda *_: 1 / 0)
    folder = train(tmp_path, corpus, monkeypatch)
    assert folder.read_status()["state"] == run_folder.FAILED
    assert "ZeroDivisionError" in folder.read_status()["message"]
    assert "Traceback" in folder.log_tail() and "Traceback" not in capsys.readouterr().err


def test_loss_falls_and_sizes_are_told(tmp_path, corpus, monkeypatch):
    training = dataclasses.replace(CONFIG.training, steps=150, log_every=50, learning_rate=0.02)
    folder = train(tmp_path, corpus, monkeypatch, dataclasses.replace(CONFIG, training=training))
    losses = [e["loss"] for e in told(folder) if e["kind"] == "metrics"]
    assert losses == sorted(losses, reverse=True) and losses[-1] < corpus.unigram_entropy + 0.1
    status = folder.read_status()
    assert status["parameters"] == load(folder.model_file).config.parameter_count()
    assert status["precision"] == "float32"
    last = told(folder)[-2]
    assert last["bits_per_byte"] == pytest.approx(last["loss"] / np.log(2), rel=0.02)
    assert last["perplexity"] == pytest.approx(np.exp(last["loss"]))
