"""Whole runs to start from: recipes for a CPU's minutes, and the original's defaults."""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig

QUICK_START = RunConfig(
    ModelConfig(
        context_length=128,
        d_model=128,
        num_heads=4,
        num_blocks=2,  # in a minute, more text teaches more than more blocks
        ffn_dim=256,
        qk_norm=True,
        zero_init=True,
    ),
    DataConfig(data="sense-and-sensibility", tokenizer="bpe"),
    TrainingConfig(
        steps=1750,  # about as many as in a minute, for whoever sets the budget of seconds to 0
        max_seconds=60.0,
        batch_size=6,
        optimizer="muon",
        learning_rate=3.5e-3,
        min_learning_rate=0.0,
        warmup_steps=20,
        schedule="trapezoid",
        weight_decay=0.01,
        decay_per_reading=0.2,  # else a text that is read more than once is learned by heart
        momentum=0.9,
        eval_every=250,
        sample_every=250,
    ),
)
# With more time a text is read more often, so that larger models pay, with dropout. The more
# windows an update has, the less each of them costs.
FIVE_MINUTES = dataclasses.replace(
    QUICK_START,
    model=QUICK_START.model.changed(d_model=192, num_blocks=4, ffn_dim=384, dropout=0.1),
    training=QUICK_START.training.changed(steps=1900, max_seconds=300.0, batch_size=12),
)
FIFTEEN_MINUTES = dataclasses.replace(
    FIVE_MINUTES,
    model=FIVE_MINUTES.model.changed(d_model=256, num_blocks=6, ffn_dim=512, dropout=0.2),
    training=FIVE_MINUTES.training.changed(steps=1850, max_seconds=900.0),
)
# A generated task's instances are short and never the same, so many fit into a step. At Quick
# start's learning rate some seeds never find what answers them.
TASK = dataclasses.replace(
    QUICK_START,
    data=DataConfig(data="task:recall"),
    training=dataclasses.replace(
        QUICK_START.training,
        steps=1500,
        max_seconds=0.0,
        batch_size=32,
        learning_rate=1e-3,
        eval_every=100,
        sample_every=100,
        sample_tokens=30,
    ),
)
# The browser app that this is a port of. Its own text, an excerpt of a novel, needs a download; of
# the built-in ones this novel is nearest in kind, and long enough not to be learned by heart.
ORIGINAL = RunConfig(
    ModelConfig(
        context_length=256,
        d_model=128,
        num_heads=8,
        num_blocks=6,
        ffn_dim=512,
        dropout=0.1,
        attention="linear",
        norm="layernorm",
        activation="gelu",
        use_bias=True,
    ),
    DataConfig(data="sense-and-sensibility", tokenizer="gpt2", cleaning="classic"),
    TrainingConfig(
        steps=1000,
        batch_size=4,
        gradient_accumulation=2,
        optimizer="adamw",
        learning_rate=3e-4,
        min_learning_rate=1e-5,
        warmup_steps=100,
        schedule="linear",
        weight_decay=0.0,
        beta_1=0.9,
        beta_2=0.98,
        epsilon=1e-6,
        sample_every=50,
        sample_prompt="the man",  # classic cleaning leaves no capitals
        sample_tokens=20,
    ),
)
PRESETS = {
    "quick-start": QUICK_START,
    "five-minutes": FIVE_MINUTES,
    "fifteen-minutes": FIFTEEN_MINUTES,
    "original": ORIGINAL,
    "task": TASK,
}
TITLES = {
    "quick-start": "Quick start",
    "five-minutes": "Five minutes",
    "fifteen-minutes": "Fifteen minutes",
    "original": "Original",
    "task": "Task",
}
TEXT_SETTINGS = (
    "model.vocab_size",
    "data.data",
    "data.encoding",
    "data.title",
    "data.init_from",
    "data.cut",
    "data.text_field",
    "data.shard_from_mb",
)  # they follow from the text


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Every setting's value, by "part.field"; without those that follow from the text."""
    values = {
        f"{name}.{spec.name}": getattr(part, spec.name)
        for name, part in config.parts.items()
        for spec in part.specs()
    }
    return {key: value for key, value in values.items() if key not in TEXT_SETTINGS}


@lru_cache(maxsize=10_000)  # of a thousand runs in a list few are new
def nearest_preset(config: RunConfig) -> tuple[str, Mapping[str, Any]]:
    """The preset that fewest settings differ from, and these settings.

    Of steps and budgets, only those count that the run's length follows from; of a task, not the
    context, which is its own.
    """
    unused = {f"training.{name}" for name in config.training.unused_lengths}
    if config.data.task:
        unused.add("model.context_length")
    values = {key: value for key, value in settings_of(config).items() if key not in unused}
    changes = {}
    for name, preset in PRESETS.items():
        usual = settings_of(preset)
        if preset.training.unused_lengths != config.training.unused_lengths:
            usual["training.steps"] = None  # the same number of steps is still another length
        changes[name] = {key: value for key, value in values.items() if value != usual[key]}
    nearest = min(changes, key=lambda name: len(changes[name]))
    return nearest, changes[nearest]
