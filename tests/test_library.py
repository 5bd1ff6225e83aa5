"""The layers and the model in other people's Keras code; the example scripts; the reference."""

import doctest
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_lm
from docs import make_reference
from keras_lm.settings.variants import ATTENTIONS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
VOCAB, LENGTH = 7, 6
WINDOWS = (np.arange(16)[:, None] + np.arange(LENGTH + 1)) % VOCAB  # (16, LENGTH + 1): counting
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(model: keras.Model) -> keras.Model:
    model.compile(keras.optimizers.Adam(0.02), LOSS)
    return model


def functional_model(attention: str, policy: str) -> keras.Model:
    """Embedding, attention, logits, of anyone's own."""
    ids = keras.Input((None,), dtype="int32")  # (batch, length)
    x = keras.layers.Embedding(VOCAB, 8, dtype=policy)(ids)  # (batch, length, 8)
    layer = ATTENTIONS[attention].load()
    x = x + layer(num_heads=2, dropout=0.1, dtype=policy)(x)
    return keras.Model(ids, keras.layers.Dense(VOCAB, dtype="float32")(x))


def check_copies(model: keras.Model, path: Path) -> None:
    """A clone with its weights, and the saved model, compute the same to the bit."""
    ids = WINDOWS[:, :-1]
    expected = np.array(model(ids))
    clone = keras.models.clone_model(model)
    assert np.abs(np.array(clone(ids)) - expected).max() > 1e-3  # its weights are fresh
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(ids), expected)
    model.save(path)
    np.testing.assert_array_equal(keras.models.load_model(path)(ids), expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_in_mixed_precision_it_trains_in_a_functional_model_and_is_cloned_and_saved(
    attention, tmp_path
):
    model = compiled(functional_model(attention, "mixed_float16"))
    keeping = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss")
    inputs, targets = WINDOWS[:, :-1], WINDOWS[:, 1:]
    history = model.fit(inputs, targets, epochs=3, verbose=0, callbacks=[keeping]).history
    assert np.isfinite(history["loss"]).all() and history["loss"][-1] < history["loss"][0]
    assert (tmp_path / "best.keras").exists()
    check_copies(model, tmp_path / "model.keras")


def test_a_language_model_fits_a_data_set_of_windows_and_is_cloned_and_saved(tmp_path):
    config = keras_lm.ModelConfig(
        VOCAB, LENGTH, d_model=8, num_heads=2, num_blocks=1, ffn_dim=8, attention="flash"
    )
    model = compiled(keras_lm.build_model(config))
    data = tf.data.Dataset.from_tensor_slices((WINDOWS[:, :-1], WINDOWS[:, 1:])).batch(8)
    stopping = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True)
    history = model.fit(
        data, epochs=3, validation_data=data, shuffle=False, verbose=0, callbacks=[stopping]
    )
    assert history.history["val_loss"][-1] < history.history["val_loss"][0]
    check_copies(model, tmp_path / "model.keras")


def run_example(name: str, folder: Path, monkeypatch) -> dict:
    """The variables that an example script leaves behind, run in an empty folder."""
    monkeypatch.chdir(folder)
    return runpy.run_path(str(EXAMPLES / name))


def test_the_example_of_a_flash_block_learns_to_count(tmp_path, monkeypatch, capsys):
    variables = run_example("flash_block.py", tmp_path, monkeypatch)
    losses = variables["history"]["loss"]
    assert losses[-1] < 1 < losses[0]
    assert capsys.readouterr().out.startswith("Loss per epoch: ")


@pytest.mark.xla
def test_the_tour_trains_plots_generates_and_inspects(tmp_path, monkeypatch, capsys):
    variables = run_example("tour.py", tmp_path, monkeypatch)
    losses = variables["history"]["loss"]
    assert losses[-1] < losses[0] / 2
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    written, *inspected = capsys.readouterr().out.splitlines()
    assert len(written) == 40
    assert len(inspected) == len("the dog sat") - 1


def test_all_examples_are_run():
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py"} == {
        "flash_block.py",
        "tour.py",
    }


def test_the_examples_of_the_script_that_makes_the_reference():
    assert doctest.testmod(make_reference) == (0, 2)


def test_the_reference_is_made_from_the_docstrings_as_they_are():
    assert make_reference.FILE.read_text() == make_reference.reference(), (
        "make it again: python -m docs.make_reference"
    )
