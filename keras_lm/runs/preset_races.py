"""Races to start from: what varies, and, where the Train page's settings do not suit, the run."""

import dataclasses
from typing import NamedTuple

from keras_lm.settings.config import RunConfig
from keras_lm.settings.presets import TASK


class PresetRace(NamedTuple):
    """One race to start from.

    Attributes:
        setting: what varies.
        base: the run that all entries share; None: as it is set on the Train page.
    """

    setting: str
    base: RunConfig | None = None


SHORTER = TASK.training.changed(steps=1000)  # enough for recall, which TASK has
# Most facts are more than two chunks of linear attention before their question.
RECALL = dataclasses.replace(
    TASK,
    model=TASK.model.changed(chunk_length=8),
    data=TASK.data.changed(task_length=12),
    training=SHORTER,
)
LONGER = dataclasses.replace(
    TASK,
    data=TASK.data.changed(task_length=12, task_test_length=16),
    training=SHORTER,
)
PRESET_RACES = {
    "Attentions": PresetRace("attention"),
    "Norms": PresetRace("norm"),
    "Activations": PresetRace("activation"),
    "Tokenizers": PresetRace("tokenizer"),
    "Learning rates": PresetRace("learning_rate"),
    "Attentions, recall from far": PresetRace("attention", RECALL),
    "Positions, longer than trained": PresetRace("positions", LONGER),
}
