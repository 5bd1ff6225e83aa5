"""Operations whose gradients are products that XLA computes fast on a CPU.

The numbers are those of the plain form up to rounding; only the way there is another.
"""

import tensorflow as tf
from keras import ops

CROWDED_FEATURES, PADDING = 256, 16  # float32: rows of 1,024 bytes, and 64 bytes more


def multiply(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x @ kernel.

    The kernel's gradient reads `x` by columns. Where rows lie a multiple of 1,024 bytes apart, a
    column's values share a few places of the processor's cache and drive each other out, which
    takes up to twice the time; so such rows are padded.

    Args:
        x: (tokens, inputs).
        kernel: (inputs, outputs), a variable or a tensor.

    Returns:
        (tokens, outputs).
    """
    inputs = kernel.shape[0]

    @tf.custom_gradient
    def product(x, kernel):
        def gradient(upstream):
            padded = x if inputs % CROWDED_FEATURES else tf.pad(x, [[0, 0], [0, PADDING]])
            d_kernel = tf.matmul(padded, upstream, transpose_a=True)[:inputs]
            return tf.matmul(upstream, kernel, transpose_b=True), d_kernel

        return tf.matmul(x, kernel), gradient

    return product(x, tf.convert_to_tensor(kernel))


def scale_features(x: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """x * scale.

    The scale's gradient is a sum over rows, which XLA would fuse with what makes the rows: seven
    times the time of this product with ones. A single row of ones would be fused as well.

    Args:
        x: (..., features).
        scale: (features,), a variable or a tensor.

    Returns:
        (..., features).
    """

    @tf.custom_gradient
    def scaled(x, scale):
        def gradient(upstream):
            rows = tf.reshape(upstream * x, (-1, scale.shape[0]))
            ones = ops.ones((2, ops.shape(rows)[0]), rows.dtype)
            return upstream * scale, tf.matmul(ones, rows)[0]

        return x * scale, gradient

    return scaled(x, tf.convert_to_tensor(scale, x.dtype))
