"""Shared by all tests: a quiet TensorFlow, and small models of unequal dimensions."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_LM_SLOTS"] = "1"  # on any machine; tests of slots choose for themselves

from pathlib import Path

import numpy as np
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spreads each folder's files over the whole: a page waits while other tests compute."""
    folders: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(item.path for item in items):
        folders.setdefault(path.parent, []).append(path)
    position = {
        path: index / len(paths) for paths in folders.values() for index, path in enumerate(paths)
    }
    items.sort(key=lambda item: position[item.path])


@pytest.fixture(scope="session")
def small_config():
    """Makes a ModelConfig: 23 tokens, context 11, 3 heads of 10, 2 blocks, 17 inside."""
    from keras_lm.settings.config import ModelConfig

    def make(**changes) -> ModelConfig:
        shape = {"vocab_size": 23, "context_length": 11, "d_model": 30, "num_heads": 3}
        return ModelConfig(**{**shape, "num_blocks": 2, "ffn_dim": 17, **changes})

    return make


@pytest.fixture(scope="session")
def randomize():
    """Gives a layer random weights: see `tests.reference.randomize`."""
    from tests import reference

    return reference.randomize


@pytest.fixture(scope="session")
def small_model(small_config, randomize):
    """Makes a model of `small_config(**changes)` with random weights."""
    from keras_lm.model.language_model import build_model

    def make(dtype=None, **changes):
        return randomize(build_model(small_config(**changes), dtype))

    return make


@pytest.fixture(scope="session")
def small_ids():
    """Makes token ids of a small model."""

    def make(*shape: int, seed: int = 3) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 23, shape).astype("int32")

    return make


@pytest.fixture(scope="session")
def sound(small_model, tmp_path_factory):
    """The path of a sound model file of letters; leave it as it is."""
    from keras_lm.data.tokenizers import CharTokenizer
    from keras_lm.export.keras_archive import save_model

    path = tmp_path_factory.mktemp("sound") / "model.keras"
    save_model(path, small_model(), CharTokenizer.from_text("abcdefghijklmnopqrs é😀\n").to_dict())
    return path


@pytest.fixture
def one_block(small_model):
    """Makes a model of one block with random weights."""

    def make(dtype=None, **changes):
        return small_model(dtype, num_blocks=1, **changes)

    return make


@pytest.fixture
def fresh_block(small_config):
    """Makes a model of one block as it is before training, always the same."""
    import keras

    from keras_lm.model.language_model import build_model

    def make(dtype=None, **changes):
        keras.utils.set_random_seed(5)
        return build_model(small_config(num_blocks=1, **changes), dtype)

    return make
