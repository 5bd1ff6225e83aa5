"""The settings that the form offers, in its groups, and what they are called."""

import dataclasses
from collections.abc import Collection

from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import DataConfig, ModelConfig, TrainingConfig

PARTS = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}
OF_TEXTS, OF_MODEL = "Text", "Model"  # groups
TITLES = {"data": OF_TEXTS, "model": OF_MODEL, "training": "Training"}  # of fields without a group
LENGTH = "Length"  # the group that is always drawn; the others are the form's "Advanced"
SIZES = {
    "Small": {"num_blocks": 2, "d_model": 64, "num_heads": 2, "ffn_dim": 128},
    "Medium": {"num_blocks": 2, "d_model": 128, "num_heads": 4, "ffn_dim": 256},
    "Large": {"num_blocks": 4, "d_model": 256, "num_heads": 8, "ffn_dim": 512},
}


def all_specs() -> dict[str, dataclasses.Field]:
    """Every setting by "part.field", offered or not."""
    return {f"{part}.{spec.name}": spec for part, kind in PARTS.items() for spec in kind.specs()}


def groups() -> dict[str, list[str]]:
    """The settings that the form offers, as "part.field", by the titles of their groups."""
    found: dict[str, list[str]] = {}
    for key, spec in all_specs().items():
        if not spec.metadata["hidden"]:
            title = spec.metadata["group"] or TITLES[key.partition(".")[0]]
            found.setdefault(title, []).append(key)
    return found


def label_of(key: str) -> str:
    """What the page calls a setting, "part.field" or its field alone."""
    name = key.rpartition(".")[2]
    labels = {spec.name: spec.metadata["label"] for spec in all_specs().values()}
    return labels.get(name) or key


def choice_label(choices: Collection[str], name: str) -> str:
    """What the page calls a choice: a variant's label, or the name itself."""
    return choices[name].label if isinstance(choices, dict) else name


def explain(error: ValueError) -> str:
    """The error's sentence; with the setting's label where it is about one."""
    if isinstance(error, ConfigError) and error.field:
        return f"{label_of(error.field)} {error.problem}"
    return str(error)


def without_advice(error: ValueError) -> str:
    """An error's message without its last sentence, which says what to do elsewhere.

    Example:
        >>> without_advice(ValueError("This file is empty. Choose one with some text."))
        'This file is empty.'
    """
    problem, has_advice, _ = str(error).rpartition(". ")
    return f"{problem}." if has_advice else str(error)
