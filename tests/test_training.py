"""Training: accumulation, clipping, optimizers and schedules against plain references."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lm.checkpoint import restore
from keras_lm.config import OPTIMIZERS, SCHEDULES, TrainingConfig
from keras_lm.model import build_model
from keras_lm.training import (
    METRICS,
    STEPS_PER_CALL,
    Training,
    WarmupDecay,
    create_optimizer,
    prepare_device,
)

CONTEXT = 11
TEXT = np.random.default_rng(2).integers(0, 23, 101)
REPEATING = np.tile([5, 1, 22, 9, 1, 13, 0], 30)


@pytest.fixture
def one_block(small_model):
    def make(dtype=None, **changes):
        return small_model(dtype, num_blocks=1, **changes)

    return make


@pytest.fixture
def fresh_block(small_config):
    def make(dtype=None, **changes):
        keras.utils.set_random_seed(5)
        return build_model(small_config(num_blocks=1, **changes), dtype)

    return make


def sgd(model, learning_rate=1.0):
    optimizer = keras.optimizers.SGD(learning_rate)
    optimizer.build(model.trainable_variables)
    return optimizer


def values(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def assert_close(actual, expected, atol):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def assert_same_bits(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def plain_gradients(model, windows):
    """Gradients of the mean loss over (batch, length + 1) windows at once."""
    windows = windows.reshape(-1, windows.shape[-1])
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(
            windows[:, 1:], model(windows[:, :-1]), from_logits=True
        )
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_variables])
    return [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def plain_losses(model, inputs, targets):
    """Loss in float64, and whether the likeliest token is right, of each token."""
    logits = np.array(model(inputs), "float64")
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -np.take_along_axis(log_probabilities, targets[..., None], -1)[..., 0]
    return losses, logits.argmax(-1) == targets


def norm(gradients):
    return math.sqrt(sum((gradient.astype("float64") ** 2).sum() for gradient in gradients))


def one_update(model, windows, optimizer=None, **arguments):
    """How far each weight moves in one update, and the update's metrics."""
    before = values(model.trainable_variables)
    training = Training(
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
        training = Training(model, sgd(model, 0.5), TEXT, count, 0.4, jit_compile=False)
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
    training = Training(model, optimizer, TEXT, jit_compile=xla)
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


def test_adamw_agrees_with_a_plain_reference(one_block, small_ids):
    model = one_block(norm="layernorm", use_bias=True)
    config = TrainingConfig(
        steps=7,
        warmup_steps=3,
        learning_rate=3e-2,
        min_learning_rate=1e-2,
        schedule="linear",
        weight_decay=0.3,
        beta_1=0.8,
        beta_2=0.95,
        epsilon=1e-4,  # or the rounding of gradients that are zero but for it would decide
    )
    training = Training(model, create_optimizer(config, model), TEXT, 2, 0.0, jit_compile=False)
    expected = [weight.astype("float64") for weight in values(model.trainable_variables)]
    first = [np.zeros_like(weight) for weight in expected]
    second = [np.zeros_like(weight) for weight in expected]
    for update in range(1, 7):
        windows = small_ids(2, 3, CONTEXT + 1, seed=update)
        left = 1 - max(0, update - 3) / 4
        rate = min(update / 3, 1) * (1e-2 + 2e-2 * left)
        for index, gradient in enumerate(plain_gradients(model, windows)):
            first[index] += 0.2 * (gradient - first[index])
            second[index] += 0.05 * (gradient.astype("float64") ** 2 - second[index])
            if expected[index].ndim == 2:
                expected[index] *= 1 - rate * 0.3
            corrected_rate = rate * np.sqrt(1 - 0.95**update) / (1 - 0.8**update)
            expected[index] -= corrected_rate * first[index] / (np.sqrt(second[index]) + 1e-4)
        training.train_step(tf.constant(windows))
    assert_close(values(model.trainable_variables), expected, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_a_gradient_matrices_shrink_and_vectors_stay(one_block, name):
    model = one_block(norm="layernorm", use_bias=True, positions="learned")
    config = TrainingConfig(
        optimizer=name, learning_rate=0.1, warmup_steps=0, schedule="constant", weight_decay=0.3
    )
    optimizer = create_optimizer(config, model)
    before = values(model.trainable_variables)
    optimizer.apply([tf.zeros(weight.shape) for weight in before])
    expected = [weight * (1 - 0.1 * 0.3) if weight.ndim == 2 else weight for weight in before]
    assert_close(values(model.trainable_variables), expected, atol=3e-7)
    assert {weight.ndim for weight in before} == {1, 2}


def well_conditioned(shape, seed):
    """A matrix with singular values from 0.2 to 1, and the orthogonal one nearest to it."""
    generator = np.random.default_rng(seed)
    small = min(shape)
    left, right = (np.linalg.qr(generator.normal(size=(side, small)))[0] for side in shape)
    return (left * np.linspace(0.2, 1.0, small)) @ right.T, left @ right.T


def test_muon_orthogonalizes_the_matrices_inside_blocks_and_leaves_the_rest_to_adamw(one_block):
    config = TrainingConfig(
        optimizer="muon",
        learning_rate=0.01,
        warmup_steps=0,
        schedule="constant",
        weight_decay=0.0,
    )
    moved = {}
    for name in OPTIMIZERS:
        model = one_block(norm="layernorm", use_bias=True, positions="learned")
        weights = model.trainable_variables
        optimizer = create_optimizer(TrainingConfig(**{**vars(config), "optimizer": name}), model)
        before = values(weights)
        gradients = [
            well_conditioned(weight.shape, seed)[0]
            if len(weight.shape) == 2
            else np.random.default_rng(seed).normal(size=weight.shape)
            for seed, weight in enumerate(weights)
        ]
        optimizer.apply([tf.constant(gradient, "float32") for gradient in gradients])
        moved[name] = [new - old for old, new in zip(before, values(weights), strict=True)]
        if name == "muon":
            adam = optimizer.adam_velocities
            orthogonalized = {w.path for w, v in zip(weights, adam, strict=True) if v is None}

    parts = ("attention/qkv", "attention/output", "feed_forward/up", "feed_forward/down")
    inside = {f"block_0/{part}/kernel" for part in parts}
    assert {path.partition("/")[2] for path in orthogonalized} == inside
    for seed, weight in enumerate(weights):
        update, by_adamw = moved["muon"][seed], moved["adamw"][seed]
        if weight.path in orthogonalized:
            update = -update / (0.01 * 0.2 * math.sqrt(max(weight.shape)))
            sizes = np.linalg.svd(update, compute_uv=False)
            assert 0.65 < sizes.min() <= sizes.max() < 1.25
            nearest = well_conditioned(weight.shape, seed)[1]
            assert np.linalg.norm(update - nearest, 2) < 0.35
        else:
            np.testing.assert_array_equal(update, by_adamw)


PEAK, FLOOR, WARMUP, STEPS = 0.7, 0.1, 5, 25


def test_every_schedule_rises_in_a_line_to_its_peak():
    for shape in SCHEDULES:
        schedule = WarmupDecay(PEAK, FLOOR, WARMUP, STEPS, shape)
        rates = [float(schedule(step)) for step in range(WARMUP)]
        np.testing.assert_allclose(rates, [0.14, 0.28, 0.42, 0.56, 0.7], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "update", "rate"),
    [
        ("linear", 6, 0.67),
        ("linear", 15, 0.4),
        ("linear", 25, FLOOR),
        ("linear", 26, FLOOR),
        ("cosine", 10, 0.1 + 0.6 * (0.5 + math.sqrt(0.125))),
        ("cosine", 15, 0.4),
        ("cosine", 25, FLOOR),
        ("cosine", 26, FLOOR),
        ("trapezoid", 6, PEAK),
        ("trapezoid", 15, PEAK),
        ("trapezoid", 16, 0.64),
        ("trapezoid", 20, 0.4),
        ("trapezoid", 25, FLOOR),
        ("trapezoid", 26, FLOOR),
        ("constant", 6, PEAK),
        ("constant", 26, PEAK),
    ],
)
def test_a_schedule_falls_to_its_floor_at_the_last_update(shape, update, rate):
    schedule = WarmupDecay(PEAK, FLOOR, WARMUP, STEPS, shape)
    np.testing.assert_allclose(schedule(update - 1), rate, rtol=1e-6)


@pytest.mark.parametrize("shape", SCHEDULES)
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 2), (1, 1), (2, 1), (3, 3)])
def test_short_runs_have_rates_between_zero_and_the_peak(shape, warmup, steps):
    schedule = WarmupDecay(PEAK, FLOOR, warmup, steps, shape)
    rates = [float(schedule(step)) for step in range(steps)]
    assert min(rates) > 0
    assert max(rates) <= PEAK * (1 + 1e-6)


def test_a_schedule_comes_back_from_its_config():
    schedule = WarmupDecay(PEAK, FLOOR, WARMUP, STEPS, "cosine")
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert float(again(9)) == float(schedule(9))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_xla_changes_nothing_but_rounding(one_block, name):
    offsets = np.random.default_rng(1).integers(0, 80, (4, 6))
    runs = []
    for xla in (False, True):
        model = one_block(qk_norm=True)
        optimizer = create_optimizer(TrainingConfig(optimizer=name, warmup_steps=2), model)
        metrics = Training(model, optimizer, TEXT, 2, jit_compile=xla).train_steps(offsets)
        runs.append([*values(model.variables), *(metrics[name] for name in METRICS)])
    assert_close(*runs, atol=2e-6)


def test_steps_in_one_call_or_in_many_are_the_same_to_the_bit(one_block):
    model = one_block(dropout=0.2)
    optimizer = create_optimizer(TrainingConfig(optimizer="muon", warmup_steps=2), model)
    training = Training(model, optimizer, TEXT, 2)
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
    metrics = Training(model, optimizer, TEXT, jit_compile=False).train_steps(np.zeros((0, 3)))
    assert {name: metric.shape for name, metric in metrics.items()} == dict.fromkeys(METRICS, (0,))
    assert_same_bits(values(variables), before)


def test_every_row_is_one_update_and_there_is_a_limit(one_block):
    model = one_block()
    training = Training(model, sgd(model), TEXT, jit_compile=False)
    metrics = training.train_steps(np.zeros((STEPS_PER_CALL, 1), "int32"))
    assert len(set(metrics["loss"].tolist())) == STEPS_PER_CALL
    assert int(training.optimizer.iterations) == STEPS_PER_CALL
    with pytest.raises(ValueError, match="broadcast"):
        training.train_steps(np.zeros((STEPS_PER_CALL + 1, 1), "int32"))


def test_a_window_is_the_text_from_its_offset_on(one_block):
    metrics = []
    for text, offset in ((TEXT, 13), (TEXT[13 : 13 + CONTEXT + 1], 0)):
        model = one_block()
        training = Training(model, sgd(model), text, jit_compile=False)
        metrics.append(training.train_steps(np.array([[offset]]))["loss"])
    np.testing.assert_array_equal(*metrics)


@pytest.fixture(scope="module")
def validation(small_model):
    model = small_model(num_blocks=1, dropout=0.3)
    return Training(model, sgd(model), TEXT, jit_compile=False)


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
    np.testing.assert_allclose(found["loss"], losses.mean(), rtol=2e-6)
    np.testing.assert_allclose(found["accuracy"], right.mean(), rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns_a_repeating_text(fresh_block, name):
    model = fresh_block(qk_norm=True, zero_init=True)
    config = TrainingConfig(steps=60, optimizer=name, learning_rate=2e-2, warmup_steps=5)
    training = Training(model, create_optimizer(config, model), REPEATING, jit_compile=False)
    order = np.random.default_rng(1).integers(0, 150, (6, 10, 4))
    losses = np.concatenate([training.train_steps(offsets)["loss"] for offsets in order])
    np.testing.assert_allclose(losses[0], math.log(23), rtol=1e-6)
    assert losses[-1] < 0.1
    found = training.validate(REPEATING, 8)
    assert found["loss"] < 0.1
    assert found["accuracy"] > 0.97


@pytest.mark.parametrize(
    ("policy", "xla"),
    [("mixed_float16", False), ("mixed_float16", True), ("mixed_bfloat16", False)],
)
def test_16_bits_learn_as_float32_does(fresh_block, policy, xla):
    model = fresh_block(policy)
    config = TrainingConfig(steps=40, learning_rate=1e-2, warmup_steps=5)
    training = Training(model, create_optimizer(config, model), REPEATING, 2, jit_compile=xla)
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
