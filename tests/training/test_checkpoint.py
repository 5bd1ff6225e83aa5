"""Checkpoints: nothing is lost, nothing half written is used."""

import io
import itertools
import json
import os
import tracemalloc

import keras
import numpy as np
import pytest

from keras_lm.keras_file.opening import ModelFileError
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import TrainingConfig
from keras_lm.training import checkpoint
from keras_lm.training.checkpoint import (
    KEPT_CHECKPOINTS,
    MANIFEST_FILE,
    POSITION_FILE,
    STATE_FILE,
    latest_checkpoint,
    restore,
    save_checkpoint,
)
from keras_lm.training.optimizers import create_optimizer
from keras_lm.training.train_step import CompiledSteps


def refuse(*_, **__):
    raise OSError(28, "No space left on device")


def variables_of(step):
    return [keras.Variable(np.full((2, 3), step, "float32")), keras.Variable(np.uint32([step, 7]))]


def test_a_checkpoint_comes_back_with_step_position_and_every_bit(tmp_path):
    position = {"seconds": 1.5, "pending": {"loss": [0.1, 0.2]}, "last_logged": 40}
    bits = np.array([0.1, -0.0, 1e-42, 3.4e38], "float32")
    path = save_checkpoint(tmp_path / "checkpoints", 500, [keras.Variable(bits)], position)
    assert path == tmp_path / "checkpoints" / "step-00000500"
    assert sorted(os.listdir(path)) == [MANIFEST_FILE, POSITION_FILE, STATE_FILE]
    found, damaged = latest_checkpoint(tmp_path / "checkpoints")
    assert (found.step, found.position, damaged) == (500, position, [])
    assert [array.tobytes() for array in found.arrays] == [bits.tobytes()]


class Lazy:
    """A variable whose array is made when it is asked for, as those of a device are."""

    def __array__(self, dtype=None, copy=None):
        return np.arange(250_000, dtype="float32")


def test_a_checkpoint_is_what_numpy_writes_and_needs_no_room_for_a_copy_of_all(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint, "MOST_POSITION_BYTES", 10_000)  # room that is never used
    tracemalloc.start()
    path = save_checkpoint(tmp_path, 5, [Lazy()] * 12, {})
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5e6  # of 12 MB
    content = io.BytesIO()
    np.savez(content, *(np.asarray(Lazy()) for _ in range(12)))
    assert (path / STATE_FILE).read_bytes() == content.getvalue()


def test_checkpoints_of_earlier_versions_are_read(tmp_path):
    path = save_checkpoint(tmp_path, 5, variables_of(5), {"seconds": 1.5})
    manifest = json.loads((path / MANIFEST_FILE).read_bytes())
    del manifest["sha256"][POSITION_FILE]
    manifest |= json.loads((path / POSITION_FILE).read_bytes())
    (path / MANIFEST_FILE).write_text(json.dumps(manifest))
    (path / POSITION_FILE).unlink()
    found, damaged = latest_checkpoint(tmp_path)
    assert (found.step, found.position, damaged) == (5, {"seconds": 1.5}, [])
    flip(path / STATE_FILE)
    assert latest_checkpoint(tmp_path) == (None, [5])


def kept_steps(folder):
    return [int(name.removeprefix("step-")) for name in sorted(os.listdir(folder))]


def test_the_newest_checkpoints_are_kept(tmp_path):
    steps = [9, 10, 11, 99, 100, 101]
    for count, step in enumerate(steps, start=1):
        save_checkpoint(tmp_path, step, variables_of(step), {})
        assert kept_steps(tmp_path) == steps[:count][-KEPT_CHECKPOINTS:]
        assert latest_checkpoint(tmp_path)[0].step == step


@pytest.mark.parametrize("losses", [[3, 1, 2, 2, 4, 5], [5, 4, 3, 2, 1, 0], [None, 2, 1, 3, None]])
def test_the_best_checkpoint_is_kept_too(tmp_path, losses):
    for step, val_loss in enumerate(losses):
        save_checkpoint(tmp_path, step, variables_of(step), {"val_loss": val_loss})
    best = min((loss, step) for step, loss in enumerate(losses) if loss is not None)[1]
    newest = range(len(losses) - KEPT_CHECKPOINTS, len(losses))
    assert kept_steps(tmp_path) == sorted({best, *newest})


def test_damaged_checkpoints_of_later_steps_do_not_push_out_sound_ones(tmp_path):
    for step in (1, 7, 8):
        save_checkpoint(tmp_path, step, variables_of(step), {})
    for step in (7, 8):
        flip(tmp_path / f"step-{step:08d}" / STATE_FILE)
    save_checkpoint(tmp_path, 2, variables_of(2), {})
    assert kept_steps(tmp_path) == [1, 2]  # and not those that nobody can use


def test_a_checkpoint_and_its_name_are_on_the_disk_when_it_is_done(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (calls.append(n), f(*a)))
    save_checkpoint(tmp_path / "new", 5, variables_of(5), {})
    # The new folder; state, position and manifest; their names; the checkpoint's own name.
    assert calls == ["fsync"] * 2 + ["fsync", "replace"] * 2 + ["fsync", "replace", "fsync"]


def test_a_sound_checkpoint_of_the_same_step_stays_and_a_damaged_one_is_replaced(tmp_path):
    for value in (1, 2):  # a moment without the old one might be the machine's last
        path = save_checkpoint(tmp_path, 5, variables_of(value), {"value": value})
        assert latest_checkpoint(tmp_path)[0].position == {"value": 1}
    flip(path / STATE_FILE)
    save_checkpoint(tmp_path, 5, variables_of(3), {"value": 3})
    found, _ = latest_checkpoint(tmp_path)
    assert (found.arrays[0] == 3).all() and found.position == {"value": 3}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "state flipped": lambda path: flip(path / STATE_FILE),
    "state cut": lambda path: os.truncate(path / STATE_FILE, 10),
    "state gone": lambda path: (path / STATE_FILE).unlink(),
    "position flipped": lambda path: flip(path / POSITION_FILE),
    "position gone": lambda path: (path / POSITION_FILE).unlink(),
    "manifest flipped": lambda path: flip(path / MANIFEST_FILE),
    "manifest gone": lambda path: (path / MANIFEST_FILE).unlink(),
    "manifest cut": lambda path: os.truncate(path / MANIFEST_FILE, 10),
    "manifest empty": lambda path: (path / MANIFEST_FILE).write_text("{}"),
    "manifest a list": lambda path: (path / MANIFEST_FILE).write_text("[]"),
    "all gone": lambda path: [(path / name).unlink() for name in os.listdir(path)],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_of_a_damaged_checkpoint_the_previous_one_is_used(tmp_path, damage):
    paths = [save_checkpoint(tmp_path, step, variables_of(step), {}) for step in (5, 7)]
    for path, expected, reported in ((paths[1], 5, [7]), (paths[0], None, [7, 5])):
        damage(path)
        found, damaged = latest_checkpoint(tmp_path)
        assert (found and found.step, damaged) == (expected, reported)


def test_every_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path, 5, variables_of(5), {"seconds": 1.5}) / MANIFEST_FILE
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        found, damaged = latest_checkpoint(tmp_path)
        assert found is None and damaged == [5]


def test_there_may_be_no_checkpoint(tmp_path):
    for name in (".partial-x", "step-", "step-x"):
        (tmp_path / name).mkdir()
    assert latest_checkpoint(tmp_path) == (None, [])
    assert latest_checkpoint(tmp_path / "missing") == (None, [])


@pytest.mark.parametrize("call", range(6))
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
    assert latest_checkpoint(tmp_path)[0].step in ((5, 7) if failed else (7,))
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


@pytest.mark.slow
@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
def test_a_resumed_run_goes_on_to_the_bit(small_config, tmp_path, optimizer_name):
    text = np.random.default_rng(2).integers(0, 23, 101)
    offsets = np.random.default_rng(1).integers(0, 80, (5, 6))
    config = TrainingConfig(optimizer=optimizer_name, steps=5, warmup_steps=2)

    def begin(seed):
        keras.utils.set_random_seed(seed)
        model = build_model(small_config(dropout=0.3, num_blocks=1))
        optimizer = create_optimizer(config, model)
        training = CompiledSteps(model, optimizer, text, 2, jit_compile=False)
        return training, [*model.variables, *optimizer.variables]

    whole, variables = begin(seed=1)
    whole.train_steps(offsets)
    expected = [keras.ops.convert_to_numpy(variable) for variable in variables]

    first, variables = begin(seed=1)
    first.train_steps(offsets[:2])
    save_checkpoint(tmp_path, 2, variables, {})

    second, variables = begin(seed=2)
    found, _ = latest_checkpoint(tmp_path)
    restore(variables, found.arrays)
    second.train_steps(offsets[found.step :])
    assert int(second.optimizer.iterations) == 5
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_array_equal(variable, value)
