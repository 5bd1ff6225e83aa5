"""Exact softmax attention by blocks of rows."""

import keras
from keras import ops

from keras_lm.attention.base import CausalSelfAttention, masked_softmax

ROW_BLOCK = 64  # rows of the score matrix computed at once


@keras.saving.register_keras_serializable(package="keras_lm")
class StandardAttention(CausalSelfAttention):
    """Exact softmax attention (https://arxiv.org/abs/1706.03762); arguments as its base class.

    A block of rows is scored against its own prefix of keys only, which leaves out the upper
    triangle that a mask would throw away: nearly half of the work and of the memory.
    """

    def attend(self, queries, keys, values):
        length = queries.shape[2]
        if length is None:  # a symbolic length: one block, whose size is known when it runs
            return self._attend_rows(queries, keys, values, first_row=0)
        blocks = [
            self._attend_rows(
                queries[:, :, start : start + ROW_BLOCK],
                keys[:, :, : start + ROW_BLOCK],
                values[:, :, : start + ROW_BLOCK],
                first_row=start,
            )
            for start in range(0, length, ROW_BLOCK)
        ]
        return ops.concatenate(blocks, axis=2) if len(blocks) > 1 else blocks[0]

    def _attend_rows(self, queries, keys, values, first_row: int):
        scores = ops.matmul(queries, ops.swapaxes(keys, 2, 3))  # (batch, heads, rows, keys)
        rows = first_row + ops.arange(ops.shape(queries)[2])
        allowed = ops.arange(ops.shape(keys)[2]) <= ops.expand_dims(rows, -1)
        return ops.matmul(ops.cast(masked_softmax(scores, allowed), values.dtype), values)
