"""The code of the variants, which needs TensorFlow."""

from keras_lm.model.attention.base import CausalSelfAttention, masked_softmax
from keras_lm.model.backend import keras, ops


@keras.saving.register_keras_serializable(package="tests")
class SlidingWindowAttention(CausalSelfAttention):
    """Exact softmax attention to the last `window` tokens."""

    def __init__(self, *args, window: int = 32, **kwargs):
        super().__init__(*args, **kwargs)
        self.window = window

    def attend(self, queries, keys, values):
        weights = self._weigh(queries, keys)  # (batch, num_heads, length, length)
        return ops.matmul(ops.cast(weights, values.dtype), values)

    def attention_weights(self, x):
        heads = self.project(x, ops.arange(x.shape[1]))
        return self._weigh(heads.queries, heads.keys)

    def _weigh(self, queries, keys):
        positions = ops.arange(ops.shape(queries)[2])
        distance = positions[:, None] - positions  # (length, length)
        scores = ops.matmul(queries, ops.swapaxes(keys, 2, 3))
        return masked_softmax(scores, (distance >= 0) & (distance < self.window))

    @property
    def at_once(self):
        return 1  # several would overwrite each other's past in a ring of `window` tokens

    def initial_state(self, batch_size, context_length):
        return super().initial_state(batch_size, min(context_length, self.window))

    def get_config(self):
        return super().get_config() | {"window": self.window}


class UnitNorm(keras.layers.Layer):
    """Divides by the root mean square; no weights, so no bias either."""

    def __init__(self, use_bias: bool = False, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        return ops.rms_normalization(inputs)


def silu(x):
    """SiLU (https://arxiv.org/abs/1702.03118)."""
    return ops.silu(x)
