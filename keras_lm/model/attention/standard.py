"""Exact softmax attention by blocks of rows."""

from keras_lm.model.attention.base import CausalSelfAttention, masked_softmax
from keras_lm.model.backend import keras, ops

# Rows of the score matrix computed at once: few waste less of the upper triangle, but a program of
# many blocks takes long to compile.
FEWEST_ROWS, MOST_BLOCKS = 64, 16


def rows_per_block(length: int) -> int:
    """How many rows of `length` are computed at once.

    Example:
        >>> rows_per_block(256), rows_per_block(4096)
        (64, 256)
    """
    return max(FEWEST_ROWS, -(-length // MOST_BLOCKS))


@keras.saving.register_keras_serializable(package="keras_lm")
class StandardAttention(CausalSelfAttention):
    """Exact softmax attention (https://arxiv.org/abs/1706.03762); arguments as its base class.

    A block of rows is scored against its own prefix of keys only, which leaves out the upper
    triangle that a mask would throw away: nearly half of the work and of the memory.

    Example:
        >>> StandardAttention(num_heads=2)(ops.ones((1, 3, 8))).shape
        TensorShape([1, 3, 8])
    """

    def attend(self, queries, keys, values):
        # (batch, num_heads, head_dim, length): the gradients of keys and values are then products
        # that run along the rows of the scores, which takes half the time.
        keys, values = ops.swapaxes(keys, 2, 3), ops.swapaxes(values, 2, 3)
        length = queries.shape[2]
        if length is None or length <= FEWEST_ROWS:  # None: known when it runs
            return self._attend_rows(queries, keys, values, first_row=0)
        rows = rows_per_block(length)
        starts = range(0, length, rows)
        blocks = [
            self._attend_rows(
                block, keys[..., : start + rows], values[..., : start + rows], first_row=start
            )
            for start, block in zip(starts, ops.split(queries, starts[1:], axis=2), strict=True)
        ]
        return ops.concatenate(blocks, axis=2)

    def _attend_rows(self, queries, keys, values, first_row: int):
        scores = ops.matmul(queries, keys)  # (batch, num_heads, rows, keys)
        rows = first_row + ops.arange(ops.shape(queries)[2])
        allowed = ops.arange(ops.shape(keys)[3]) <= ops.expand_dims(rows, -1)
        weights = ops.cast(masked_softmax(scores, allowed), values.dtype)
        return ops.matmul(weights, ops.swapaxes(values, 2, 3))
