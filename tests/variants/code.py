"""The code of the variants, which needs TensorFlow."""

from keras_lm.model.attention.base import CausalSelfAttention, Heads, attend_at_once, masked_softmax
from keras_lm.model.backend import keras, ops
from keras_lm.settings.checks import ConfigError


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


@keras.saving.register_keras_serializable(package="tests")
class GroupedQueryAttention(CausalSelfAttention):
    """Softmax attention whose heads share keys and values (https://arxiv.org/abs/2305.13245)."""

    def __init__(self, *args, num_kv_heads: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        if self.num_heads % num_kv_heads:
            raise ConfigError(
                f"must divide num_heads, {self.num_heads}, but got {num_kv_heads}.", "num_kv_heads"
            )
        self.num_kv_heads = num_kv_heads

    @property
    def qkv_size(self):
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    def split_heads(self, x):
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        # (batch, length, qkv_size) -> (batch, heads, length, head_dim)
        heads = ops.reshape(self.qkv(x), (batch, length, -1, self.head_dim))
        ends = [self.num_heads, self.num_heads + self.num_kv_heads]
        queries, keys, values = ops.split(ops.transpose(heads, (0, 2, 1, 3)), ends, axis=1)
        if self.qk_norm:
            queries, keys = ops.rms_normalization(queries), ops.rms_normalization(keys)
        shared = self.num_heads // self.num_kv_heads
        keys, values = ops.repeat(keys, shared, axis=1), ops.repeat(values, shared, axis=1)
        return Heads(queries * self.head_dim**-0.5, keys, values)

    def attend(self, queries, keys, values):
        return attend_at_once(queries, keys, values)

    def get_config(self):
        return super().get_config() | {"num_kv_heads": self.num_kv_heads}


class UnitNorm(keras.layers.Layer):
    """Divides by the root mean square; no weights, so no bias either."""

    def __init__(self, use_bias: bool = False, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        return ops.rms_normalization(inputs)


def silu(x):
    """SiLU (https://arxiv.org/abs/1702.03118)."""
    return ops.silu(x)
