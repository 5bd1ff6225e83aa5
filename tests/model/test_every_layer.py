"""Every layer class of `keras_lm.model` keeps what all layers promise."""

import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_lm.model
from keras_lm.model.attention.base import CausalSelfAttention
from keras_lm.settings.config import ModelConfig
from tests.model.checks import check_layer

BATCH, LENGTH, D_MODEL, VOCAB = 2, 13, 12, 23
MODEL = ModelConfig(
    vocab_size=VOCAB,
    context_length=LENGTH,
    d_model=D_MODEL,
    num_heads=2,
    num_blocks=1,
    ffn_dim=7,
    positions="learned",
)
# How each class is made; those that are not here need no arguments.
ARGUMENTS = {
    "StandardAttention": {"num_heads": 2, "use_bias": True, "qk_norm": True},
    "FlashAttention": {"num_heads": 2, "use_bias": True, "qk_norm": True},
    "LinearAttention": {"num_heads": 2, "chunk_length": 3, "num_slots": 4},
    "Slots": {"num_heads": 2, "num_slots": 4},
    "DownProjection": {"units": 5},
    "FeedForward": {"ffn_dim": 7},
    "DecoderBlock": {"num_heads": 2, "ffn_dim": 7, "norm": "layernorm", "use_bias": True},
    "NgramEmbedding": {"vocab_size": VOCAB, "d_model": D_MODEL, "order": 3, "most_rows": 600},
    "NewTokens": {
        "tokens": [*range(VOCAB)],
        "vocab_size": VOCAB,
        "d_model": D_MODEL,
        "is_tied": False,
    },
    "LanguageModel": {"config": MODEL},
}
TAKE_IDS = ("NgramEmbedding", "NewTokens", "LanguageModel")
# What of `check_layer` is different for some.
DIFFERENT = {
    "LanguageModel": {"output_dtype": "float32"},
    "NewTokens": {"used_elsewhere": ("output_layer_rows",)},
    "Slots": {
        "output_dtype": "float32",
        "position_axis": 2,
        "used_elsewhere": ("gate", "log_rate"),
    },
}


def layer_classes() -> list[type]:
    """All layer classes that are defined below `keras_lm.model`, but for the abstract one."""
    found = {}
    for module in pkgutil.walk_packages(keras_lm.model.__path__, "keras_lm.model."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, keras.layers.Layer):
                if value.__module__ == module.name and value is not CausalSelfAttention:
                    found[value.__name__] = value
    return list(found.values())


def test_all_layers_are_found():
    assert {*ARGUMENTS, *DIFFERENT} <= {cls.__name__ for cls in layer_classes()}


@pytest.mark.parametrize("cls", layer_classes(), ids=lambda cls: cls.__name__)
def test_a_layer_is_a_good_layer(cls, tmp_path):
    def make(**arguments):
        return cls(**ARGUMENTS.get(cls.__name__, {}), **arguments)

    random = np.random.default_rng(5)
    x = random.normal(size=(BATCH, LENGTH, D_MODEL)).astype("float32")
    if cls.__name__ in TAKE_IDS:
        x = random.integers(0, VOCAB - 1, (BATCH, LENGTH), "int32")
    check_layer(make, x, tmp_path / "own.weights.h5", **DIFFERENT.get(cls.__name__, {}))
