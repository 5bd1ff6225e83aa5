"""Optimizers and the schedule against plain references."""

import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lm.settings.training_config import SCHEDULES, TrainingConfig
from keras_lm.settings.variants import OPTIMIZERS
from keras_lm.training.optimizers import GramMuon, WarmupDecay, create_optimizer
from keras_lm.training.train_step import CompiledSteps
from tests.reference import assert_close, plain_gradients, values

CONTEXT = 11
TEXT = np.random.default_rng(2).integers(0, 23, 101)


@pytest.mark.parametrize("shape", [(7, 13), (13, 7), (7, 14), (11, 43), (43, 11), (1, 5), (3, 3)])
def test_the_iteration_on_gram_matrices_is_the_usual_one(shape):
    x = np.random.default_rng(4).normal(size=shape).astype("float32")
    gram, usual = (
        optimizer.zeropower_via_newtonschulz5(tf.constant(x), 5).numpy()
        for optimizer in (GramMuon(), keras.optimizers.Muon())
    )
    np.testing.assert_allclose(gram, usual, rtol=0, atol=2e-6)
    assert np.abs(gram).max() > 0.1


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("updates", [0, 1, 7, 8, 9, 1_000])
def test_the_weight_decay_grows_with_the_readings_up_to_a_limit(one_block, name, updates):
    def updated(config: TrainingConfig) -> list[np.ndarray]:
        model = one_block()
        optimizer = create_optimizer(config, model, readings_per_update=0.25)
        optimizer.iterations.assign(updates)
        optimizer.apply([tf.ones(weight.shape) for weight in model.trainable_variables])
        return values(model.trainable_variables)

    shared = {"optimizer": name, "learning_rate": 0.01, "warmup_steps": 0, "schedule": "constant"}
    grown = updated(TrainingConfig(weight_decay=0.5, decay_per_reading=1.75, **shared))
    decay = min(0.5 + 1.75 * 0.25 * updates, 4.0)  # which eight updates reach
    assert_close(grown, updated(TrainingConfig(weight_decay=decay, **shared)), 1e-6)
    constant = updated(TrainingConfig(weight_decay=0.5, **shared))
    changes = [np.abs(a - b).max() for a, b in zip(grown, constant, strict=True)]
    assert (max(changes) > 1e-3) == (updates > 0)


def test_a_stronger_weight_decay_than_the_limit_stays_as_it_is(one_block):
    model = one_block()
    before = values(model.trainable_variables)
    config = TrainingConfig(weight_decay=9.0, decay_per_reading=1.0, warmup_steps=0, steps=1)
    optimizer = create_optimizer(config, model, readings_per_update=1.0)
    optimizer.iterations.assign(5)
    optimizer.apply([tf.zeros(weight.shape) for weight in model.trainable_variables])
    rate = float(optimizer.learning_rate)
    for weight, after in zip(before, values(model.trainable_variables), strict=True):
        expected = weight * (1 - 9.0 * rate) if weight.ndim == 2 else weight
        np.testing.assert_allclose(after, expected, rtol=1e-5)


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
    optimizer = create_optimizer(config, model)
    training = CompiledSteps(model, optimizer, TEXT, 2, 0.0, jit_compile=False)
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


@pytest.mark.parametrize("name", ["adamw", "muon"])  # which use OncePerUpdate
def test_what_all_variables_share_is_computed_once_an_update(one_block, name):
    model = one_block(norm="layernorm", use_bias=True)
    optimizer = create_optimizer(TrainingConfig(optimizer=name, schedule="cosine"), model)
    schedule = optimizer._learning_rate
    gradients = [tf.zeros(weight.shape) for weight in model.trainable_variables]
    update = tf.function(lambda: optimizer.apply(gradients), autograph=False)
    kinds = [op.type for op in update.get_concrete_function().graph.get_operations()]
    assert kinds.count("Pow") == 2  # of Adam's two betas
    assert kinds.count("Cos") == 1
    assert optimizer._learning_rate is schedule


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
    for name in ("adamw", "muon"):
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


def test_muon_orthogonalizes_gradients_with_nesterov_momentum(one_block):
    config = TrainingConfig(
        optimizer="muon", warmup_steps=0, schedule="constant", weight_decay=0.0, momentum=0.7
    )
    model = one_block()
    optimizer = create_optimizer(config, model)
    kernel = model.blocks[0].feed_forward.up.kernel
    first, second = (np.random.default_rng(seed).normal(size=kernel.shape) for seed in (5, 6))
    for gradient in (first, second):
        before = kernel.numpy()
        gradients = [
            tf.constant(gradient, "float32") if weight is kernel else tf.zeros(weight.shape)
            for weight in model.trainable_variables
        ]
        optimizer.apply(gradients)
    mixed = tf.constant(second + 0.7 * (0.7 * first + second), "float32")
    direction = keras.optimizers.Muon().zeropower_via_newtonschulz5(mixed, 5).numpy()
    expected = before - 1e-3 * 0.2 * math.sqrt(max(kernel.shape)) * direction
    assert_close([kernel.numpy()], [expected], atol=3e-7)


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


def test_lengths_and_rates_are_no_constants_of_the_compiled_step(one_block):
    def constants(**changes):
        config = TrainingConfig(optimizer="muon", **changes)
        model = one_block()
        training = CompiledSteps(model, create_optimizer(config, model), TEXT)
        offsets, steps = tf.zeros((10, 1, 3), tf.int32), tf.constant(7)
        compiler = training._compiled_steps.experimental_get_compiler_ir(offsets, steps)
        return re.findall(r"constant\((.*?)\)", compiler(stage="hlo"))

    usual = constants()
    assert constants(steps=13, warmup_steps=5, learning_rate=7e-3, min_learning_rate=0.0) == usual
    assert constants(weight_decay=0.7) != usual


def test_a_schedule_comes_back_from_its_config():
    schedule = WarmupDecay(PEAK, FLOOR, WARMUP, STEPS, "cosine")
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert float(again(9)) == float(schedule(9))
