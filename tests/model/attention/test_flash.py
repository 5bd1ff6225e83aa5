"""Flash attention: as exact as the standard one, in memory and code that do not grow like it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import keras_lm
from keras_lm.model.attention import FlashAttention, StandardAttention
from keras_lm.model.attention.flash import LARGEST_BLOCK, flash_attention

pytestmark = pytest.mark.xla

EDGES = [LARGEST_BLOCK - 1, LARGEST_BLOCK, LARGEST_BLOCK + 1]
LENGTHS = [1, *EDGES, 131, 257]
FLOAT32_EPSILON = np.finfo("float32").eps


def draw(*shape, dtype="float32", seed=5):
    return tf.cast(np.random.default_rng(seed).normal(size=shape), dtype)


def draw_all(length, head_dim, dtype="float32", largest_score=None):
    """Queries, keys, values and the gradient from above; scores of about 1, or as given."""
    queries, keys, values, upstream = (
        draw(2, 2, length, head_dim, dtype=dtype, seed=length + n) for n in range(4)
    )
    scale = head_dim**-0.5
    if largest_score:
        scores = tf.matmul(queries, keys, transpose_b=True)
        scale = largest_score / float(tf.reduce_max(tf.abs(scores)))
    return queries * tf.cast(scale, dtype), keys, values, upstream


def standard_attention(queries, keys, values):
    return StandardAttention(num_heads=2).attend(queries, keys, values)


def output_and_gradients(attend, queries, keys, values, upstream):
    with tf.GradientTape() as tape:
        tape.watch((queries, keys, values))
        mixed = attend(queries, keys, values)
    return mixed, *tape.gradient(mixed, (queries, keys, values), upstream)


def exact(queries, keys, values, upstream):
    """The output and the gradients in float64, written down plainly."""
    queries, keys, values, upstream = (
        np.array(tf.cast(x, "float64")) for x in (queries, keys, values, upstream)
    )
    scores = queries @ keys.swapaxes(2, 3)
    scores[..., ~np.tri(scores.shape[-1], dtype=bool)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    d_weights = upstream @ values.swapaxes(2, 3)
    d_scores = weights * (d_weights - (weights * d_weights).sum(-1, keepdims=True))
    return (
        weights @ values,
        d_scores @ keys,
        d_scores.swapaxes(2, 3) @ queries,
        weights.swapaxes(2, 3) @ upstream,
    )


def errors(results, references):
    """Root-mean-square errors of the output and of the three gradients."""
    return np.array(
        [
            np.sqrt(np.mean((np.array(tf.cast(result, "float64")) - reference) ** 2))
            for result, reference in zip(results, references, strict=True)
        ]
    )


def assert_at_most_twice_the_error_of_standard(arguments, xla=False):
    run = tf.function(output_and_gradients, jit_compile=True) if xla else output_and_gradients
    references = exact(*arguments)
    flash, standard = (
        errors(run(attend, *arguments), references)
        for attend in (flash_attention, standard_attention)
    )
    allowed = 2 * standard
    length, head_dim = arguments[0].shape[2:]
    if length == 1:
        # The weight of a single key is 1 whatever its score, so the gradients of queries and keys
        # are 0: `standard` finds that exactly, here two sums of head_dim products cancel.
        allowed[1:3] += head_dim * FLOAT32_EPSILON
    assert (flash <= allowed).all(), (flash, standard)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("head_dim", [8, 24, 128])
def test_it_is_about_as_exact_as_standard(dtype, length, head_dim):
    assert_at_most_twice_the_error_of_standard(draw_all(length, head_dim, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("length", [1, LARGEST_BLOCK, 131])
def test_it_is_about_as_exact_as_standard_with_xla(dtype, length):
    assert_at_most_twice_the_error_of_standard(draw_all(length, 24, dtype), xla=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("largest_score", [10, 60])
def test_it_is_about_as_exact_as_standard_where_scores_are_large(dtype, largest_score):
    assert_at_most_twice_the_error_of_standard(draw_all(131, 24, dtype, largest_score))


@pytest.mark.parametrize("largest_score", [100, 10_000])
def test_scores_whose_exponentials_overflow_are_no_trouble(largest_score):
    arguments = draw_all(257, 8, largest_score=largest_score)
    for result, reference in zip(
        output_and_gradients(flash_attention, *arguments), exact(*arguments), strict=True
    ):
        tolerance = 4 * largest_score * FLOAT32_EPSILON  # of a score, so of a weight
        np.testing.assert_allclose(
            result, reference, rtol=0, atol=tolerance * np.abs(reference).max()
        )


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_the_future_changes_no_bit_of_the_past_at_block_edges(xla):
    length = 2 * LARGEST_BLOCK + 3  # three blocks of a third each
    third = -(-length // 3)
    attend = tf.function(flash_attention, jit_compile=xla)
    queries, keys, values, _ = (x.numpy() for x in draw_all(length, 8))
    before = attend(queries, keys, values).numpy()
    for t in (1, third - 1, third, third + 1, 2 * third, LARGEST_BLOCK, length - 1):
        changed = [x.copy() for x in (queries, keys, values)]
        for x in changed:
            x[:, :, t:] = 50 * draw(2, 2, length - t, 8, seed=t)
        after = attend(*changed).numpy()
        np.testing.assert_array_equal(after[:, :, :t], before[:, :, :t])
        assert (np.abs(after[:, :, t:] - before[:, :, t:]).max(axis=-1) > 1e-3).all()


def test_blocks_above_the_diagonal_are_never_visited():
    """What is not visited may even be no number; a mask alone would let it through."""
    block = LARGEST_BLOCK
    queries, keys, values, upstream = draw_all(2 * block, 8)
    expected = output_and_gradients(
        flash_attention, *(x[:, :, :block] for x in (queries, keys, values, upstream))
    )
    hole = tf.where(tf.range(2 * block)[:, None] < block, 0.0, np.nan)
    mixed, d_queries, _, _ = output_and_gradients(
        flash_attention, queries, keys + hole, values + hole, upstream
    )
    np.testing.assert_allclose(mixed[:, :, :block], expected[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(d_queries[:, :, :block], expected[1], rtol=0, atol=1e-5)
    assert np.isnan(mixed[:, :, block:]).all()


@pytest.mark.parametrize("length", LENGTHS)
def test_weights_sum_to_one(length):
    queries, keys, _, _ = draw_all(length, 24)
    constant = draw(24) * tf.ones_like(keys)
    np.testing.assert_allclose(flash_attention(queries, keys, constant), constant, rtol=2e-6)


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("length", [1, *EDGES])
def test_shapes_known_only_when_it_runs_give_the_same(length, xla):
    arguments = draw_all(length, 8)
    compiled = tf.function(
        lambda *arguments: output_and_gradients(flash_attention, *arguments),
        input_signature=[tf.TensorSpec((None, 2, None, 8))] * 4,
        jit_compile=xla,
    )
    expected = output_and_gradients(flash_attention, *arguments)
    for result, other in zip(compiled(*arguments), expected, strict=True):
        np.testing.assert_allclose(result, other, rtol=0, atol=2e-5)


def test_every_weight_learns_as_with_standard_in_a_compiled_step(randomize):
    x, target = draw(3, 37, 30), draw(3, 37, 30, seed=1)
    results = []
    for kind in (FlashAttention, StandardAttention):
        layer = kind(num_heads=3, qk_norm=True, use_bias=True)
        layer.build((None, 37, 30))
        randomize(layer)

        @tf.function(input_signature=[tf.TensorSpec((None, 37, 30))] * 2, jit_compile=True)
        def step(x, target, layer=layer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((layer(x, training=True) - target) ** 2)
            return tape.gradient(loss, [weight.value for weight in layer.trainable_weights])

        results.append(step(x, target))
    assert len(results[0]) == 4
    for flash, standard in zip(*results, strict=True):
        largest = np.abs(standard).max()
        assert largest > 1e-3
        np.testing.assert_allclose(flash, standard, rtol=0, atol=1e-5 * largest)


def compiled_text(length):
    arguments = [tf.TensorSpec((1, 2, length, 16))] * 4
    step = tf.function(
        lambda *arguments: output_and_gradients(flash_attention, *arguments), jit_compile=True
    )
    return step.experimental_get_compiler_ir(*arguments)(stage="optimized_hlo")


def test_the_compiled_program_does_not_grow_with_the_length():
    short, long = compiled_text(4 * LARGEST_BLOCK), compiled_text(64 * LARGEST_BLOCK)
    assert short.count(" while(") == long.count(" while(") == 4
    # One instruction a line: the same ones, only the numbers in them have more digits.
    assert len(long.splitlines()) == len(short.splitlines())
    assert len(long) <= 1.05 * len(short)


COMPILE_FOR_MEMORY = """
import sys
import tensorflow as tf
from keras_lm.model.attention.flash import flash_attention

def square_attention(queries, keys, values):
    scores = tf.matmul(queries, keys, transpose_b=True)
    past = tf.linalg.band_part(tf.ones(scores.shape[2:], bool), -1, 0)
    return tf.matmul(tf.nn.softmax(tf.where(past, scores, -1e9)), values)

def compile(name, attend, length):
    def step(queries, keys, values, upstream):
        with tf.GradientTape() as tape:
            tape.watch((queries, keys, values))
            mixed = attend(queries, keys, values)
        return mixed, *tape.gradient(mixed, (queries, keys, values), upstream)
    step.__name__ = f"{name}_of_{length}_tokens"
    arguments = [tf.TensorSpec((1, 8, length, 16))] * 4
    compiled = tf.function(step, jit_compile=True)
    compiled.experimental_get_compiler_ir(*arguments)(stage="optimized_hlo")

compile("square", square_attention, 1024)
compile("flash", flash_attention, 1024)
compile("flash", flash_attention, 2048)
"""


def test_memory_grows_with_the_length_and_not_with_its_square(tmp_path):
    """XLA's own plan of its temporary memory, which it writes down when its flags say so."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(keras_lm.__file__).parents[1]),
        "CUDA_VISIBLE_DEVICES": "-1",
        "XLA_FLAGS": f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text",
    }
    subprocess.run([sys.executable, "-c", COMPILE_FOR_MEMORY], env=environment, check=True)

    def temporary_bytes(name):
        (plan,) = tmp_path.glob(f"*{name}_tokens*buffer-assignment.txt")
        # What the plan lists before its summary: one line an allocation.
        (size,) = re.findall(
            r"^allocation \d+: size (\d+), preallocated-temp", plan.read_text(), re.M
        )
        return int(size)

    square, flash = temporary_bytes("square_of_1024"), temporary_bytes("flash_of_1024")
    assert square >= 8 * 1024**2 * 4  # the scores at least
    assert flash <= square / 20
    assert temporary_bytes("flash_of_2048") <= 2.1 * flash
