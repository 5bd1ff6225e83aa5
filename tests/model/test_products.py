"""Products whose gradients are computed another way are equal to TensorFlow's own."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_lm.model.products import CROWDED_FEATURES, PADDING, multiply, scale_features

pytestmark = pytest.mark.xla


def draw(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(sum(shape)).normal(size=shape), tf.float32)


def outcome(function, x, weights, jit_compile):
    """The function's values and both gradients of a sum with weights of its own."""

    @tf.function(jit_compile=jit_compile)
    def values_and_gradients(x, weights):
        with tf.GradientTape() as tape:
            tape.watch([x, weights])
            values = function(x, weights)
            total = tf.reduce_sum(values * draw(*values.shape))
        return values, *tape.gradient(total, [x, weights])

    return values_and_gradients(x, weights)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(3, 7), (7, 7), (8, 7), (13, 7)]
    + [(CROWDED_FEATURES + i, outputs) for i in (-1, 0, 1, PADDING) for outputs in (7, 263)],
)
def test_a_product_and_its_gradients_are_the_plain_ones(inputs, outputs, jit_compile):
    x, kernel = draw(37, inputs), draw(inputs, outputs)
    ours = outcome(multiply, x, kernel, jit_compile)
    for our, plain in zip(ours, outcome(tf.matmul, x, kernel, jit_compile), strict=True):
        assert our.shape == plain.shape
        np.testing.assert_allclose(our, plain, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shape", [(1, 3), (5, 11, 13), (2, 3, 5, 7)])
def test_a_scaling_and_its_gradients_are_the_plain_ones(shape, jit_compile):
    x, scale = draw(*shape), draw(shape[-1])
    ours = outcome(scale_features, x, scale, jit_compile)
    for our, plain in zip(ours, outcome(tf.multiply, x, scale, jit_compile), strict=True):
        np.testing.assert_allclose(our, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "outputs", "padded"),
    [
        (6, 7, False),
        (7, 7, False),
        (8, 7, True),
        (CROWDED_FEATURES - 1, CROWDED_FEATURES, False),
        (CROWDED_FEATURES, CROWDED_FEATURES, True),
        (CROWDED_FEATURES + 1, CROWDED_FEATURES + 1, False),
        (2 * CROWDED_FEATURES, 521, True),
    ],
)
def test_rows_are_padded_only_where_columns_are_slow_to_read(inputs, outputs, padded):
    step = tf.function(lambda x, kernel: outcome(multiply, x, kernel, False))
    graph = step.get_concrete_function(draw(5, inputs), draw(inputs, outputs)).graph
    assert ('op: "Pad"' in str(graph.as_graph_def())) is padded


def test_xla_keeps_the_narrower_matrix_first():
    @tf.function(jit_compile=True)
    def d_kernel(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            total = tf.reduce_sum(multiply(x, kernel) ** 2)
        return tape.gradient(total, kernel)

    compiled = d_kernel.experimental_get_compiler_ir(draw(37, 29), draw(29, 7))("optimized_hlo")
    shapes = re.findall(r"= f32\[([\d,]+)\]\S* dot\(", compiled)
    assert f"{7 + PADDING},29" in shapes


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_stays_half(dtype):
    x, kernel, scale = (tf.cast(draw(*shape), dtype) for shape in ((5, 256), (256, 3), (256,)))
    for function, weights in ((multiply, kernel), (scale_features, scale)):
        with tf.GradientTape() as tape:
            tape.watch([x, weights])
            values = function(x, weights)
        gradients = tape.gradient(values, [x, weights])
        assert [tensor.dtype for tensor in (values, *gradients)] == [dtype] * 3
