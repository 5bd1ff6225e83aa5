"""Training: accumulation, clipping, optimizers and schedules against plain references."""

import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lm.settings.training_config import TrainingConfig
from keras_lm.settings.variants import OPTIMIZERS
from keras_lm.training.checkpoint import restore
from keras_lm.training.optimizers import create_optimizer
from keras_lm.training.train_step import (
    METRICS,
    STEPS_PER_CALL,
    CompiledSteps,
    prepare_device,
)
from tests.reference import assert_close, assert_same_bits, plain_gradients, plain_losses, values

pytestmark = pytest.mark.xla

CONTEXT = 11
TEXT = np.random.default_rng(2).integers(0, 23, 101)
REPEATING = np.tile([5, 1, 22, 9, 1, 13, 0], 30)


def sgd(model, learning_rate=1.0):
    optimizer = keras.optimizers.SGD(learning_rate)
    optimizer.build(model.trainable_variables)
    return optimizer


def norm(gradients):
    return math.sqrt(sum((gradient.astype("float64") ** 2).sum() for gradient in gradients))


def one_update(model, windows, optimizer=None, **arguments):
    """How far each weight moves in one update, and the update's metrics."""
    before = values(model.trainable_variables)
    training = CompiledSteps(
        model, optimizer or sgd(model), TEXT, len(windows), jit_compile=False, **arguments
    )
    metrics = training.train_step(tf.constant(windows))
    after = values(model.trainable_variables)
    return [new - old for old, new in zip(before, after, strict=True)], metrics


@pytest.mark.parametrize("accumulation", [1, 2, 3])
@pytest.mark.parametrize("tied", [False, True])
def test_accumulated_gradients_are_those_of_the_big_batch(one_block, small_ids, accumulation, tied):
    model = one_block(positions="learned", tie_embeddings=tied)
    windows = small_ids(accumulation, 6 // accumulation, CONTEXT + 1)
    expected = [-gradient for gradient in plain_gradients(model, windows)]
    moved, _ = one_update(model, windows, clip_norm=0.0)
    assert norm(expected) > 0.1
    assert_close(moved, expected, atol=2e-7)


@pytest.mark.parametrize("accumulation", [2, 3])
def test_runs_with_accumulation_equal_runs_with_the_big_batch(one_block, accumulation):
    offsets = np.random.default_rng(1).integers(0, 80, (4, 6))
    runs = []
    for count in (1, accumulation):
        model = one_block()
        training = CompiledSteps(model, sgd(model, 0.5), TEXT, count, 0.4, jit_compile=False)
        metrics = training.train_steps(offsets)
        runs.append([*values(model.variables), *(metrics[name] for name in METRICS)])
    assert_close(*runs, atol=2e-6)
    assert (runs[0][-1] > 0.4).all()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_metrics_agree_with_plain_formulas(one_block, small_ids, accumulation):
    model = one_block(logit_soft_cap=3.0)
    windows = small_ids(accumulation, 3, CONTEXT + 1)
    flat = windows.reshape(-1, CONTEXT + 1)
    losses, right = plain_losses(model, flat[:, :-1], flat[:, 1:])
    expected = [losses.mean(), right.mean(), norm(plain_gradients(model, windows))]
    _, metrics = one_update(model, windows, clip_norm=0.1)
    assert tuple(metrics) == METRICS
    assert right.any()
    np.testing.assert_allclose([*metrics.values()], expected, rtol=1e-6)


@pytest.mark.parametrize("part", [0.1, 0.999, 1.001, 10.0])
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scale"])
def test_a_gradient_longer_than_the_limit_is_cut_to_it(one_block, small_ids, part, scaled):
    model = one_block()
    windows = small_ids(2, 3, CONTEXT + 1)
    gradients = plain_gradients(model, windows)
    limit = part * norm(gradients)
    optimizer = sgd(model)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0))
        optimizer.build(model.trainable_variables)
    moved, metrics = one_update(model, windows, optimizer, clip_norm=limit)
    assert_close(moved, [-min(1.0, part) * gradient for gradient in gradients], atol=2e-7)
    np.testing.assert_allclose(norm(moved), min(limit, norm(gradients)), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], norm(gradients), rtol=1e-5)


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_a_gradient_that_float16_cannot_hold_skips_the_update_and_halves_the_scale(one_block, xla):
    model = one_block("mixed_float16")
    optimizer = create_optimizer(TrainingConfig(warmup_steps=0), model)
    training = CompiledSteps(model, optimizer, TEXT, jit_compile=xla)
    before = values(model.variables + optimizer.inner_optimizer.variables)
    optimizer.dynamic_scale.assign(2.0**40)
    metrics = training.train_steps(np.zeros((1, 2), "int32"))
    assert np.isfinite(metrics["loss"]).all()
    assert not np.isfinite(metrics["grad_norm"]).any()
    assert float(optimizer.dynamic_scale) == 2.0**39
    assert_same_bits(values(model.variables + optimizer.inner_optimizer.variables), before)
    optimizer.dynamic_scale.assign(2.0**10)
    metrics = training.train_steps(np.zeros((1, 2), "int32"))
    assert np.isfinite(metrics["grad_norm"]).all()
    assert float(optimizer.dynamic_scale) == 2.0**10
    assert int(optimizer.iterations) == 1
    assert (values(model.variables)[0] != before[0]).any()


@pytest.mark.parametrize(
    ("policy", "scaled"), [("float32", False), ("mixed_float16", True), ("mixed_bfloat16", False)]
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_float16_has_a_loss_scale(one_block, policy, scaled, name):
    optimizer = create_optimizer(TrainingConfig(optimizer=name), one_block(policy))
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer) == scaled


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_xla_changes_nothing_but_rounding(one_block, name):
    offsets = np.random.default_rng(1).integers(0, 80, (4, 6))
    runs = []
    for xla in (False, True):
        model = one_block(qk_norm=True)
        optimizer = create_optimizer(TrainingConfig(optimizer=name, warmup_steps=2), model)
        metrics = CompiledSteps(model, optimizer, TEXT, 2, jit_compile=xla).train_steps(offsets)
        runs.append([*values(model.variables), *(metrics[name] for name in METRICS)])
    assert_close(*runs, atol=2e-6)


def test_steps_in_one_call_or_in_many_are_the_same_to_the_bit(one_block):
    model = one_block(dropout=0.2)
    optimizer = create_optimizer(TrainingConfig(optimizer="muon", warmup_steps=2), model)
    training = CompiledSteps(model, optimizer, TEXT, 2)
    variables = [*model.variables, *optimizer.variables]
    start = values(variables)
    offsets = np.random.default_rng(1).integers(0, 80, (5, 6))
    runs = []
    for calls in ([5], [1, 1, 1, 1, 1], [2, 0, 3]):
        restore(variables, start)
        parts = np.split(offsets, np.cumsum(calls)[:-1])
        metrics = [training.train_steps(part) for part in parts]
        joined = [np.concatenate([part[name] for part in metrics]) for name in METRICS]
        runs.append([*joined, *values(variables)])
    assert_same_bits(runs[1], runs[0])
    assert_same_bits(runs[2], runs[0])
    assert all(len(metric) == 5 for metric in runs[0][: len(METRICS)])


def test_a_call_without_steps_changes_nothing(one_block):
    model = one_block(dropout=0.2)
    optimizer = create_optimizer(TrainingConfig(), model)
    variables = [*model.variables, *optimizer.variables]
    before = values(variables)
    metrics = CompiledSteps(model, optimizer, TEXT, jit_compile=False).train_steps(np.zeros((0, 3)))
    assert {name: metric.shape for name, metric in metrics.items()} == dict.fromkeys(METRICS, (0,))
    assert_same_bits(values(variables), before)


def test_every_row_is_one_update_and_there_is_a_limit(one_block):
    model = one_block()
    training = CompiledSteps(model, sgd(model), TEXT, jit_compile=False)
    metrics = training.train_steps(np.zeros((STEPS_PER_CALL, 1), "int32"))
    assert len(set(metrics["loss"].tolist())) == STEPS_PER_CALL
    assert int(training.optimizer.iterations) == STEPS_PER_CALL
    expected = f"0 to {STEPS_PER_CALL} updates per call, but got {STEPS_PER_CALL + 1}"
    with pytest.raises(ValueError, match=expected):
        training.train_steps(np.zeros((STEPS_PER_CALL + 1, 1), "int32"))


def test_a_window_is_the_text_from_its_offset_on(one_block):
    metrics = []
    for text, offset in ((TEXT, 13), (TEXT[13 : 13 + CONTEXT + 1], 0)):
        model = one_block()
        training = CompiledSteps(model, sgd(model), text, jit_compile=False)
        metrics.append(training.train_steps(np.array([[offset]]))["loss"])
    np.testing.assert_array_equal(*metrics)


@pytest.fixture(scope="module")
def validation(small_model):
    model = small_model(num_blocks=1, dropout=0.3)
    return CompiledSteps(model, sgd(model), TEXT, jit_compile=False)


@pytest.mark.parametrize("length", [2, 3, CONTEXT, CONTEXT + 1, CONTEXT + 2, 3 * CONTEXT + 1, 101])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_validation_is_the_plain_mean_over_all_tokens(validation, length, batch_size):
    text = TEXT[:length]
    parts = []
    for start in range(0, length - 1, CONTEXT):
        window = text[None, start : start + CONTEXT + 1]
        parts.append(plain_losses(validation.model, window[:, :-1], window[:, 1:]))
    losses, right = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    assert losses.size == length - 1
    found = validation.validate(text, batch_size)
    np.testing.assert_allclose(found.loss, losses.mean(), rtol=2e-6)
    np.testing.assert_allclose(found.accuracy, right.mean(), rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns_a_repeating_text(fresh_block, name):
    model = fresh_block(qk_norm=True, zero_init=True)
    config = TrainingConfig(steps=60, optimizer=name, learning_rate=2e-2, warmup_steps=5)
    training = CompiledSteps(model, create_optimizer(config, model), REPEATING, jit_compile=False)
    order = np.random.default_rng(1).integers(0, 150, (6, 10, 4))
    losses = np.concatenate([training.train_steps(offsets)["loss"] for offsets in order])
    np.testing.assert_allclose(losses[0], math.log(23), rtol=1e-6)
    assert losses[-1] < 0.1
    found = training.validate(REPEATING, 8)
    assert found.loss < 0.1
    assert found.accuracy > 0.97


@pytest.mark.parametrize(
    ("policy", "xla"),
    [("mixed_float16", False), ("mixed_float16", True), ("mixed_bfloat16", False)],
)
def test_16_bits_learn_as_float32_does(fresh_block, policy, xla):
    model = fresh_block(policy)
    config = TrainingConfig(steps=40, learning_rate=1e-2, warmup_steps=5)
    training = CompiledSteps(model, create_optimizer(config, model), REPEATING, 2, jit_compile=xla)
    order = np.random.default_rng(1).integers(0, 150, (4, 10, 4))
    losses = np.concatenate([training.train_steps(offsets)["loss"] for offsets in order])
    assert np.isfinite(losses).all()
    assert losses[0] > 3.0
    assert losses[-1] < 0.3
    assert {weight.dtype for weight in model.trainable_variables} == {"float32"}


def test_auto_precision_is_float32_without_a_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert prepare_device("auto", deterministic=False) == "float32"
    assert prepare_device("mixed_bfloat16", deterministic=False) == "mixed_bfloat16"


def test_auto_precision_is_float16_on_a_gpu_whose_memory_grows(monkeypatch):
    grown = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(
        tf.config.experimental, "set_memory_growth", lambda gpu, on: grown.append((gpu, on))
    )
    assert prepare_device("auto", deterministic=False) == "mixed_float16"
    assert grown == [("GPU:0", True)]


SUMS_OVER_ROWS = """
import tensorflow as tf
from keras_lm.training.train_step import prepare_device

{prepare}
x = tf.ones((13, 64, 128))
sums = tf.function(lambda x: tf.reduce_sum(x * x, (0, 1)), jit_compile=True)
print("reduce-window" in sums.experimental_get_compiler_ir(x)(stage="optimized_hlo"))
"""


@pytest.mark.parametrize(
    ("prepare", "has_windows"),
    [("", True), ("prepare_device('auto', deterministic=False)", False)],
    ids=["as XLA comes", "prepared"],
)
def test_sums_over_rows_are_not_cut_into_windows(monkeypatch, prepare, has_windows):
    """In a process of its own: XLA reads its flags once."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    script = SUMS_OVER_ROWS.format(prepare=prepare)
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.stdout.split() == [str(has_windows)], process.stderr
