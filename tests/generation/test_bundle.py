"""The `.keras` file: a model comes back to the bit, and a failed save harms nothing."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lm.data.tokenizers import CharTokenizer, Gpt2Tokenizer
from keras_lm.export.keras_archive import save_model
from keras_lm.generation import bundle
from keras_lm.generation.bundle import generate, load
from keras_lm.settings.variants import ATTENTIONS, POSITIONS
from keras_lm.storage import run_folder

ROOT = Path(__file__).parents[2]
TOKENIZER = CharTokenizer.from_text("abcdefghijklmnopqrs é😀\n")


def refuse(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("positions", POSITIONS)
def test_a_model_and_its_tokenizer_come_back_to_the_bit(
    small_model, small_ids, tmp_path, attention, positions
):
    model = small_model(attention=attention, positions=positions, use_bias=True, dropout=0.1)
    save_model(tmp_path / "model.keras", model, TOKENIZER.to_dict())
    loaded = load(str(tmp_path / "model.keras"))
    assert loaded.config == model.config == loaded.model.config
    assert loaded.tokenizer.to_dict() == TOKENIZER.to_dict() == loaded.model.tokenizer
    ids = small_ids(3, 11)
    np.testing.assert_array_equal(loaded.model(ids), model(ids))
    assert os.listdir(tmp_path) == ["model.keras"]


def test_a_loaded_model_generates_and_can_be_saved_again(sound, tmp_path):
    loaded = load(sound)
    save_model(tmp_path / "again.keras", loaded.model, loaded.model.tokenizer)
    again = load(tmp_path / "again.keras")
    assert generate(again, "abc", max_new_tokens=9) == generate(loaded, "abc", max_new_tokens=9)


def test_gpt2_tokenizers_come_along(small_model, tmp_path):
    tokenizer = Gpt2Tokenizer.from_text("The man, who had two horses -- é😀 -- sold one of them.")
    model = small_model(vocab_size=tokenizer.vocab_size)
    save_model(tmp_path / "model.keras", model, tokenizer.to_dict())
    assert load(tmp_path / "model.keras").tokenizer.to_dict() == tokenizer.to_dict()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_model_of_any_precision_is_saved_as_float32(small_model, small_ids, tmp_path, policy):
    model = small_model(policy)
    save_model(tmp_path / "model.keras", model, TOKENIZER.to_dict())
    for again in (
        load(tmp_path / "model.keras").model,
        keras.models.load_model(tmp_path / "model.keras"),
    ):
        layers = [again, *again._flatten_layers()]
        assert {layer.dtype_policy.name for layer in layers} == {"float32"}
        np.testing.assert_array_equal(
            again(small_ids(3, 11)), small_model("float32")(small_ids(3, 11))
        )
    assert model.dtype_policy.name == policy


def test_plain_keras_loads_it_in_a_fresh_process(sound, small_ids, tmp_path):
    program = (
        "import sys\n"
        "import keras, numpy\n"
        "from keras_lm import LanguageModel\n"
        "model = keras.models.load_model(sys.argv[1])\n"
        "assert isinstance(model, LanguageModel)\n"
        "assert model.tokenizer['characters']\n"
        "numpy.save(sys.argv[2], model(numpy.load(sys.argv[3])))\n"
    )
    np.save(tmp_path / "ids.npy", small_ids(3, 11))
    paths = [sound, tmp_path / "logits.npy", tmp_path / "ids.npy"]
    subprocess.run([sys.executable, "-c", program, *paths], cwd=ROOT, check=True)
    expected = load(sound).model(small_ids(3, 11))
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), expected)


@pytest.mark.parametrize("failing", ["keras", "replace", "fsync"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    small_model, tmp_path, monkeypatch, failing
):
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")
    if failing == "keras":
        monkeypatch.setattr(bundle.LanguageModel, "save", refuse)
    else:
        monkeypatch.setattr(run_folder.os, failing, refuse)
    with pytest.raises(OSError, match="No space left"):
        save_model(path, small_model(), TOKENIZER.to_dict())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lion"])
def test_a_model_that_keras_fitted_and_saved_loads_without_its_optimizer(
    sound, tmp_path, small_ids, optimizer
):
    model = keras.models.load_model(sound)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    model.fit(small_ids(2, 11), small_ids(2, 11), verbose=0)
    path = tmp_path / "fitted.keras"
    model.save(path)
    for ours, theirs in zip(load(path).model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
