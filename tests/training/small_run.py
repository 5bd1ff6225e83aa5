"""A run of thirteen steps with a few hundred weights, for the tests of whole runs."""

import dataclasses
import time

from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training import run as trainer

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
        decay_per_reading=10.0,  # of 0.0003 readings per update
    ),
)

PLAIN = dataclasses.replace(  # without samples
    CONFIG, training=dataclasses.replace(CONFIG.training, sample_every=0)
)

SHARED = RunConfig(  # by two replicas
    CONFIG.model,
    CONFIG.data,
    TrainingConfig(
        steps=12,
        batch_size=4,
        log_every=2,
        eval_every=0,
        sample_every=0,
        checkpoint_every=4,
        warmup_steps=3,
        strategy="mirrored",
    ),
)


def train(path, corpus, monkeypatch, config=CONFIG, report=lambda line: None) -> RunFolder:
    """Trains in the folder `path` and hears each line of progress; a run that is there goes on."""
    monkeypatch.setattr(trainer, "report_progress", report)
    folder = RunFolder(path)
    folder.create()
    trainer.train(folder, config, corpus, time.time())
    return folder


def events_of(folder: RunFolder) -> list[dict]:
    """The events without what depends on the clock and on the process."""
    clock = {"seconds", "train_seconds", "tokens_per_second", "memory_mb"}
    events, _ = folder.read_events()
    return [{k: v for k, v in event.items() if k not in clock} for event in events]
