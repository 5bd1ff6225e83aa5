"""Operations whose gradients are products that XLA computes fast on a CPU.

The results are those of the plain form up to rounding.
"""

from keras_lm.model.backend import ops, tf

CROWDED_FEATURES, PADDING = 256, 4  # float32: rows of 1,024 bytes, and 16 bytes more


def multiply(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """x @ kernel.

    The kernel's gradient reads one of two matrices by columns, which is quick only if that is the
    narrower one: with `inputs` wider than `outputs` it is the upstream gradient, and the result
    is transposed. XLA would fold this into the slow product; rows padded by a few values keep it
    from that. They are padded also where they lie a multiple of 1,024 bytes apart, since a
    column's values then share a few lines of the processor's cache and evict each other.

    Args:
        x: (tokens, inputs).
        kernel: (inputs, outputs), a variable or a tensor.

    Returns:
        (tokens, outputs).

    Example:
        >>> multiply(tf.constant([[1.0, 2.0]]), tf.constant([[3.0], [4.0]])).numpy().tolist()
        [[11.0]]
    """
    inputs, outputs = kernel.shape

    @tf.custom_gradient
    def product(x, kernel):
        def gradient(upstream):
            if inputs > outputs:
                d_kernel = tf.transpose(_multiply_padded_columns(upstream, x))
            elif inputs % CROWDED_FEATURES == 0:
                d_kernel = _multiply_padded_columns(x, upstream)
            else:
                d_kernel = tf.matmul(x, upstream, transpose_a=True)
            return tf.matmul(upstream, kernel, transpose_b=True), d_kernel

        return tf.matmul(x, kernel), gradient

    return product(x, tf.convert_to_tensor(kernel))


def _multiply_padded_columns(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """a^T @ b: (tokens, m) and (tokens, n) make (m, n)."""
    padded = tf.pad(a, [[0, 0], [0, PADDING]])
    return tf.matmul(padded, b, transpose_a=True)[: a.shape[1]]


def scale_features(x: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """x * scale.

    The scale's gradient is a sum over rows, which XLA would fuse with what makes the rows: seven
    times the time of this product with ones. A single row of ones would be fused as well.

    Args:
        x: (..., features).
        scale: (features,), a variable or a tensor.

    Returns:
        (..., features).

    Example:
        >>> scale_features(tf.constant([[1.0, 2.0]]), tf.constant([3.0, 4.0])).numpy().tolist()
        [[3.0, 8.0]]
    """

    @tf.custom_gradient
    def scaled(x, scale):
        def gradient(upstream):
            rows = tf.reshape(upstream * x, (-1, scale.shape[0]))
            ones = ops.ones((2, ops.shape(rows)[0]), rows.dtype)
            return upstream * scale, tf.matmul(ones, rows)[0]

        return x * scale, gradient

    return scaled(x, tf.convert_to_tensor(scale, x.dtype))
