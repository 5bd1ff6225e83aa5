"""Exact softmax attention in memory that grows with the length, not with its square.

FlashAttention-2 (https://arxiv.org/abs/2307.08691): rows (queries) and columns (keys and values)
are cut into blocks, and of the length x length scores no more than one block exists at a time.

Forward, for a block of rows i and the column blocks j up to i, with S = Q_i K_j^T:

    m' = max(m, rowmax S)            P = exp(S - m')
    l' = exp(m - m') l + rowsum P    O' = exp(m - m') O + P V_j

At the end O_i = O / l. Backward, with D = rowsum(dO * O), for a block of columns j and the row
blocks i from j on:

    P = exp(S - m_i) / l_i    dS = P * (dO_i V_j^T - D_i)
    dV_j += P^T dO_i          dK_j += dS^T Q_i          dQ_i += dS K_j

The paper keeps m + log l, one number per row. Kept apart, they give P as exactly as the forward
pass has it: in a sum with a large maximum, the logarithm would lose its last digits.

A tensor in blocks is (blocks, batch, num_heads, block, head_dim).
"""

from typing import NamedTuple

from keras_lm.model.attention.base import MASKED, CausalSelfAttention, attend_at_once
from keras_lm.model.backend import keras, ops, tf

LARGEST_BLOCK = 128  # rows; 64 to 512 take about the same time on a CPU


@keras.saving.register_keras_serializable(package="keras_lm")
class FlashAttention(CausalSelfAttention):
    """Exact softmax attention, block by block (https://arxiv.org/abs/2307.08691).

    It equals StandardAttention, whose arguments it has, up to rounding; its memory grows with the
    length instead of with the length's square, and its compilation does not grow at all.

    Example:
        >>> FlashAttention(num_heads=2)(ops.ones((1, 3, 8))).shape
        TensorShape([1, 3, 8])
    """

    def attend(self, queries, keys, values):
        return flash_attention(queries, keys, values)

    def attend_without_loops(self, queries, keys, values):
        return attend_at_once(queries, keys, values)


@tf.autograph.experimental.do_not_convert  # or AutoGraph may drop the next line
@tf.custom_gradient
def flash_attention(queries, keys, values):
    """Causal softmax attention, differentiable once.

    All sums and products are in float32; what is kept for the gradient is the arguments, the
    output and two numbers per row.

    Args:
        queries: (batch, num_heads, length, head_dim), scaled already.
        keys, values: the same shape and dtype.

    Returns:
        The mixture of values, the same shape and dtype.
    """
    length = ops.shape(queries)[2]
    queries, keys, values = (_split(x) for x in (queries, keys, values))
    result = _forward(queries, keys, values)

    def gradient(upstream):
        gradients = _backward(queries, keys, values, result, _split(upstream))
        return tuple(_join(x, length) for x in gradients)

    return _join(result.outputs, length), gradient


def _split(x):
    """(batch, num_heads, length, head_dim) -> blocks, as few and as equal as can be.

    The last block is filled up with zeros. As keys they come after every row that counts; as rows
    they have no gradient, and are cut off in the end.
    """
    batch, num_heads, length, head_dim = ops.shape(x)
    block = LARGEST_BLOCK
    if isinstance(length, int):
        block = _ceil_divide(length, _ceil_divide(length, LARGEST_BLOCK))
    num_blocks = _ceil_divide(length, block)
    x = tf.pad(x, [[0, 0], [0, 0], [0, num_blocks * block - length], [0, 0]])
    x = tf.reshape(x, (batch, num_heads, num_blocks, block, head_dim))
    return tf.transpose(x, (2, 0, 1, 3, 4))


def _join(blocks, length):
    """Blocks -> (batch, num_heads, length, head_dim)."""
    num_blocks, batch, num_heads, block, head_dim = ops.shape(blocks)
    x = tf.transpose(blocks, (1, 2, 0, 3, 4))
    return tf.reshape(x, (batch, num_heads, num_blocks * block, head_dim))[:, :, :length]


def _ceil_divide(a, b):
    return -(-a // b)


def _scores(queries, keys, row, column):
    """Q_i K_j^T, masked above the diagonal: (batch, num_heads, block, block)."""
    indices = tf.range(queries.shape[-2])
    ahead = indices - indices[:, None] + (column - row) * queries.shape[-2]
    return tf.where(ahead <= 0, tf.matmul(queries, keys, transpose_b=True), MASKED)


def _read(blocks, index):
    return tf.cast(blocks[index], "float32")


def _empty(like):
    """A float32 array of blocks, to be written one by one: zeros as large as `like`."""
    zeros = tf.zeros_like(like, "float32")
    return tf.TensorArray("float32", ops.shape(like)[0]).unstack(zeros)


class _Forward(NamedTuple):
    """O in the values' dtype; m and l, (..., block, 1) in float32. All in blocks."""

    outputs: tf.Tensor
    maxima: tf.Tensor
    totals: tf.Tensor


def _forward(queries, keys, values) -> _Forward:
    """The mixture of values, and what the gradient needs of each row's softmax."""

    def attend_row(row, outputs, maxima, totals):
        q = _read(queries, row)

        def add_column(column, maximum, total, mixed):
            scores = _scores(q, _read(keys, column), row, column)
            new_maximum = tf.maximum(maximum, tf.reduce_max(scores, axis=-1, keepdims=True))
            weights = tf.exp(scores - new_maximum)
            rescale = tf.exp(maximum - new_maximum)
            total = rescale * total + tf.reduce_sum(weights, axis=-1, keepdims=True)
            mixed = rescale * mixed + tf.matmul(weights, _read(values, column))
            return column + 1, new_maximum, total, mixed

        nothing = tf.zeros_like(q[..., :1])
        _, maximum, total, mixed = tf.while_loop(
            lambda column, *_: column <= row,
            add_column,
            (tf.constant(0), nothing + MASKED, nothing, tf.zeros_like(q)),
        )
        outputs = outputs.write(row, mixed / total)
        return row + 1, outputs, maxima.write(row, maximum), totals.write(row, total)

    one_per_row = queries[..., :1]
    _, outputs, maxima, totals = tf.while_loop(
        lambda row, *_: row < ops.shape(queries)[0],
        attend_row,
        (tf.constant(0), _empty(queries), _empty(one_per_row), _empty(one_per_row)),
    )
    return _Forward(tf.cast(outputs.stack(), values.dtype), maxima.stack(), totals.stack())


def _backward(queries, keys, values, result: _Forward, upstream):
    """Gradients of queries, keys and values, in blocks and in their dtype."""
    num_blocks = ops.shape(queries)[0]
    upstream_dot_output = tf.reduce_sum(
        tf.cast(upstream, "float32") * tf.cast(result.outputs, "float32"), axis=-1, keepdims=True
    )

    def visit_column(column, dq, dk, dv):
        k, v = _read(keys, column), _read(values, column)

        def add_row(row, dq, dk_column, dv_column):
            q, d_out = _read(queries, row), _read(upstream, row)
            weights = tf.exp(_scores(q, k, row, column) - result.maxima[row])
            weights /= result.totals[row]
            d_weights = tf.matmul(d_out, v, transpose_b=True)
            d_scores = weights * (d_weights - upstream_dot_output[row])
            dq = dq.write(row, dq.read(row) + tf.matmul(d_scores, k))
            dk_column += tf.matmul(d_scores, q, transpose_a=True)
            dv_column += tf.matmul(weights, d_out, transpose_a=True)
            return row + 1, dq, dk_column, dv_column

        _, dq, dk_column, dv_column = tf.while_loop(
            lambda row, *_: row < num_blocks,
            add_row,
            (column, dq, tf.zeros_like(k), tf.zeros_like(v)),
        )
        return column + 1, dq, dk.write(column, dk_column), dv.write(column, dv_column)

    _, *gradients = tf.while_loop(
        lambda column, *_: column < num_blocks,
        visit_column,
        (tf.constant(0), _empty(queries), _empty(keys), _empty(values)),
    )
    return tuple(tf.cast(gradient.stack(), queries.dtype) for gradient in gradients)
