"""Low-rank adapters: what learns, what stays, and the plain model that computes the same."""

import numpy as np
import pytest

from keras_lm.model.backend import tf
from keras_lm.model.language_model import build_model
from keras_lm.model.low_rank import add_adapters, plain_weights
from keras_lm.settings.config import TrainingConfig
from keras_lm.training.optimizers import create_optimizer
from keras_lm.training.train_step import CompiledSteps

SHAPES = {
    "plain": {},
    "tied": {"tie_embeddings": True, "use_bias": True, "norm": "layernorm"},
    "linear": {"attention": "linear", "ngram_order": 2, "positions": "learned"},
}
NEW = np.array([0, 9, 22])


def train(model, tokens, **changes) -> CompiledSteps:
    """Two updates, without XLA."""
    settings = TrainingConfig(warmup_steps=0, learning_rate=0.05, weight_decay=0.5, **changes)
    steps = CompiledSteps(model, create_optimizer(settings, model), tokens, jit_compile=False)
    steps.train_steps(np.arange(4, dtype="int32").reshape(2, 2))
    return steps


def build_with(arrays, config):
    """A plain model of these weights."""
    model = build_model(config)
    model.set_weights(arrays)
    return model


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("shape", SHAPES)
def test_only_adapters_and_new_rows_learn_and_the_plain_model_computes_the_same(
    small_model, small_ids, shape, optimizer
):
    model, ids = small_model(**SHAPES[shape]), small_ids(2, 11)
    base, before = model.get_weights(), np.array(model(ids))
    frozen = model.weights
    add_adapters(model, 2, NEW)
    np.testing.assert_array_equal(np.array(model(ids)), before)
    is_tied = model.output_layer is None
    expected = model.config.adapter_count(2) + len(NEW) * 30 * (2 - is_tied)
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == expected
    steps = train(model, small_ids(40), optimizer=optimizer)
    for variable, array in zip(frozen, base, strict=True):
        np.testing.assert_array_equal(np.array(variable), array)
    states = sum(np.prod(v.shape) for v in steps.optimizer.variables)
    assert states <= 2 * expected + 2
    after = np.array(model(ids))
    assert np.abs(after - before).max() > 1e-3
    plain = build_with(plain_weights(model), model.config)
    np.testing.assert_allclose(np.array(plain(ids)), after, atol=1e-6 * np.abs(after).max())
    changed = plain.output_kernel() != build_with(base, model.config).output_kernel()
    assert {*np.flatnonzero(np.array(changed).any(axis=0))} == {*NEW}
    assert {*np.flatnonzero((plain.get_weights()[0] != base[0]).any(axis=1))} <= {*NEW}


def test_the_base_has_no_gradient_and_the_adapters_theirs_by_hand(small_model, small_ids):
    plain = small_model()
    model = build_with(plain.get_weights(), plain.config)
    add_adapters(model, 3, NEW[:0])
    up = model.blocks[1].feed_forward.up
    up.lora_kernel_b.assign(np.random.default_rng(1).normal(size=up.lora_kernel_b.shape))
    a, b = np.array(up.lora_kernel_a), np.array(up.lora_kernel_b)
    merged = plain.blocks[1].feed_forward.up
    merged._kernel.assign(np.array(merged._kernel) + a @ b)
    ids = small_ids(3, 11)

    def gradients(of, variables):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(of(ids)))
        return [None if g is None else np.array(g) for g in tape.gradient(loss, variables)]

    (whole,) = gradients(plain, [merged._kernel.value])
    base, of_a, of_b = gradients(
        model, [up._kernel.value, up.lora_kernel_a.value, up.lora_kernel_b.value]
    )
    assert not any(variable is up._kernel for variable in model.trainable_variables)
    np.testing.assert_allclose(of_a, whole @ b.T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(of_b, a.T @ whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 40])
def test_any_rank_works_also_above_the_width(small_model, small_ids, rank):
    model = small_model(num_blocks=1)
    add_adapters(model, rank, NEW[:0])
    trained = sum(np.prod(v.shape) for v in model.trainable_variables)
    assert trained == model.config.adapter_count(rank)
    train(model, small_ids(40))
    assert all(np.isfinite(array).all() for array in plain_weights(model))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_calls_keeps_and_merges_whole_numbers(
    small_model, small_ids, precision, tied
):
    model = small_model(precision, num_blocks=1, tie_embeddings=tied)
    add_adapters(model, 2, NEW)
    train(model, small_ids(40))
    plain, ids = build_with(plain_weights(model), model.config), small_ids(2, 11)
    np.testing.assert_allclose(np.array(model(ids)), np.array(plain(ids)), atol=0.05)
    up = model.blocks[0].feed_forward.up
    expected = np.array(up._kernel) + np.array(up.lora_kernel_a) @ np.array(up.lora_kernel_b)
    index = [id(v) for v in model.weights if "lora" not in v.path].index(id(up._kernel))
    np.testing.assert_allclose(plain_weights(model)[index], expected, rtol=1e-6)
