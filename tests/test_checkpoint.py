"""Checkpoints: nothing is lost, nothing half written is used."""

import itertools
import os

import keras
import numpy as np
import pytest

from keras_lm.checkpoint import (
    KEPT_CHECKPOINTS,
    MANIFEST_FILE,
    STATE_FILE,
    latest_checkpoint,
    restore,
    save_checkpoint,
)
from keras_lm.config import TrainingConfig
from keras_lm.model import build_model
from keras_lm.model_file import ModelFileError
from keras_lm.training import Training, create_optimizer


def refuse(*_, **__):
    raise OSError(28, "No space left on device")


def variables_of(step):
    return [keras.Variable(np.full((2, 3), step, "float32")), keras.Variable(np.uint32([step, 7]))]


def test_a_checkpoint_comes_back_with_step_position_and_every_bit(tmp_path):
    position = {"seconds": 1.5, "pending": {"loss": [0.1, 0.2]}, "last_logged": 40}
    bits = np.array([0.1, -0.0, 1e-42, 3.4e38], "float32")
    path = save_checkpoint(tmp_path / "checkpoints", 500, [keras.Variable(bits)], position)
    assert path == tmp_path / "checkpoints" / "step-00000500"
    assert sorted(os.listdir(path)) == [MANIFEST_FILE, STATE_FILE]
    step, arrays, found = latest_checkpoint(tmp_path / "checkpoints")
    assert (step, found) == (500, position)
    assert [array.tobytes() for array in arrays] == [bits.tobytes()]


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    steps = [9, 10, 11, 99, 100, 101]
    for count, step in enumerate(steps, start=1):
        save_checkpoint(tmp_path, step, variables_of(step), {})
        kept = steps[:count][-KEPT_CHECKPOINTS:]
        assert sorted(os.listdir(tmp_path)) == [f"step-{step:08d}" for step in kept]
        assert latest_checkpoint(tmp_path)[0] == step


def test_a_checkpoint_and_its_name_are_on_the_disk_when_it_is_done(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (calls.append(n), f(*a)))
    save_checkpoint(tmp_path, 5, variables_of(5), {})
    assert calls == ["fsync", "replace"] * 2 + ["replace", "fsync"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    for value in (1, 2):
        save_checkpoint(tmp_path, 5, variables_of(value), {"value": value})
    _, arrays, position = latest_checkpoint(tmp_path)
    assert (arrays[0] == 2).all()
    assert position == {"value": 2}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "state flipped": lambda path: flip(path / STATE_FILE),
    "state cut": lambda path: os.truncate(path / STATE_FILE, 10),
    "state gone": lambda path: (path / STATE_FILE).unlink(),
    "manifest gone": lambda path: (path / MANIFEST_FILE).unlink(),
    "manifest cut": lambda path: os.truncate(path / MANIFEST_FILE, 10),
    "manifest empty": lambda path: (path / MANIFEST_FILE).write_text("{}"),
    "manifest a list": lambda path: (path / MANIFEST_FILE).write_text("[]"),
    "all gone": lambda path: [(path / name).unlink() for name in os.listdir(path)],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_of_a_damaged_checkpoint_the_previous_one_is_used(tmp_path, damage):
    paths = [save_checkpoint(tmp_path, step, variables_of(step), {}) for step in (5, 7)]
    for path, expected in ((paths[1], 5), (paths[0], None)):
        damage(path)
        found = latest_checkpoint(tmp_path)
        assert (found and found[0]) == expected


def test_there_may_be_no_checkpoint(tmp_path):
    (tmp_path / ".partial-x").mkdir()
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "missing") is None


@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_checkpoint_leaves_the_older_ones(tmp_path, monkeypatch, name, call):
    save_checkpoint(tmp_path, 5, variables_of(5), {})
    real, count = getattr(os, name), itertools.count()
    monkeypatch.setattr(
        os, name, lambda *a, **k: refuse() if next(count) == call else real(*a, **k)
    )
    try:
        save_checkpoint(tmp_path, 7, variables_of(7), {})
        failed = False
    except OSError:
        failed = True
    assert failed == (next(count) > call)
    monkeypatch.undo()
    assert latest_checkpoint(tmp_path)[0] in ((5, 7) if failed else (7,))
    assert all(folder.startswith("step-") for folder in os.listdir(tmp_path))


@pytest.mark.parametrize(
    "arrays",
    [
        [np.zeros((3, 2), "float32"), np.zeros(2, "uint32")],
        [np.zeros((2, 3), "float32")],
        [np.zeros((2, 3), "float32"), np.zeros(2, "uint32"), np.zeros(1)],
        [],
    ],
    ids=["another shape", "one less", "one more", "none"],
)
def test_a_checkpoint_of_another_model_changes_nothing(arrays):
    variables = variables_of(5)
    with pytest.raises(ModelFileError, match="belongs to a model of another shape"):
        restore(variables, arrays)
    for variable, before in zip(variables, variables_of(5), strict=True):
        np.testing.assert_array_equal(variable, before)


@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
def test_a_resumed_run_goes_on_to_the_bit(small_config, tmp_path, optimizer_name):
    text = np.random.default_rng(2).integers(0, 23, 101)
    offsets = np.random.default_rng(1).integers(0, 80, (5, 6))
    config = TrainingConfig(optimizer=optimizer_name, steps=5, warmup_steps=2)

    def begin(seed):
        keras.utils.set_random_seed(seed)
        model = build_model(small_config(dropout=0.3, num_blocks=1))
        optimizer = create_optimizer(config, model)
        training = Training(model, optimizer, text, 2, jit_compile=False)
        return training, [*model.variables, *optimizer.variables]

    whole, variables = begin(seed=1)
    whole.train_steps(offsets)
    expected = [keras.ops.convert_to_numpy(variable) for variable in variables]

    first, variables = begin(seed=1)
    first.train_steps(offsets[:2])
    save_checkpoint(tmp_path, 2, variables, {})

    second, variables = begin(seed=2)
    step, arrays, _ = latest_checkpoint(tmp_path)
    restore(variables, arrays)
    second.train_steps(offsets[step:])
    assert int(second.optimizer.iterations) == 5
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(variable, value)
