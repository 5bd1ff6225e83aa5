"""What all attention layers share: projections, heads, rotary positions, decoding.

Shapes: `x` is (batch, length, d_model); `queries`, `keys` and `values` are
(batch, num_heads, length, head_dim). A variant says how it attends to a whole sequence (`attend`)
and, with a state of fixed size, to one token at a time (`initial_state`, `attend_to_state`).
"""

from typing import NamedTuple

import numpy as np

from keras_lm.model.backend import keras, ops, tf
from keras_lm.settings.checks import ConfigError, check_part, check_value
from keras_lm.settings.variants import POSITIONS

MASKED = -1e9  # a score no key survives; finite in float32, where scores live
AT_ONCE = 16  # tokens of a prompt: the weights are read once for all of them


def rotate(x, positions, base: float = 10_000.0):
    """Rotary position embedding (RoFormer, https://arxiv.org/abs/2104.09864).

    Feature pairs (j, j + head_dim / 2) turn by position * base^(-2j / head_dim), so the product of
    a query and a key depends on their distance alone.

    Args:
        x: (..., length, head_dim), head_dim even.
        positions: (length,) integers.
        base: the longest wavelength's scale.

    Returns:
        The same shape and dtype as `x`.

    Example:
        >>> rotate(ops.array([[1.0, 0.0]] * 2), ops.arange(2)).numpy().round(2)
        array([[1.  , 0.  ],
               [0.54, 0.84]], dtype=float32)
    """
    half = x.shape[-1] // 2
    frequencies = base ** (-np.arange(half, dtype="float32") / half)
    angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * frequencies  # (length, half)
    cos, sin = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
    first, second = x[..., :half], x[..., half:]
    return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def masked_softmax(scores, allowed):
    """Softmax over the last axis in float32, with weight 0 where `allowed` is false.

    Example:
        >>> masked_softmax(ops.zeros(3), ops.array([True, True, False])).numpy().tolist()
        [0.5, 0.5, 0.0]
    """
    return ops.softmax(ops.where(allowed, ops.cast(scores, "float32"), MASKED), axis=-1)


def attend_at_once(queries, keys, values):
    """Causal softmax attention with all scores at once.

    Args:
        queries, keys, values: (..., length, head_dim), queries scaled.

    Returns:
        (..., length, head_dim).

    Example:
        >>> x = ops.array([[1.0, 0.0], [0.0, 1.0]])
        >>> attend_at_once(0 * x, x, x).numpy().tolist()  # equal scores: means of what is seen
        [[1.0, 0.0], [0.5, 0.5]]
    """
    scores = ops.matmul(queries, ops.swapaxes(keys, -1, -2))  # (..., length, length)
    row = ops.arange(ops.shape(queries)[-2])
    weights = masked_softmax(scores, row <= ops.expand_dims(row, -1))
    return ops.matmul(ops.cast(weights, values.dtype), values)


class Heads(NamedTuple):
    """Queries, keys and values, each (batch, num_heads, length, head_dim)."""

    queries: tf.Tensor
    keys: tf.Tensor
    values: tf.Tensor


class Rings(NamedTuple):
    """A state for generation: the last keys and values, each (batch * num_heads, size, head_dim).

    The token at position p is at the index p % size.
    """

    keys: tf.Tensor
    values: tf.Tensor


class CausalSelfAttention(keras.layers.Layer):
    """What the variants share: fused projections, heads, rotary positions, output, dropout.

    Args:
        num_heads: heads; they divide d_model evenly.
        dropout: part of the output silenced while training, 0 to below 1.
        positions: a name in POSITIONS: "rotary" turns queries and keys; "learned" leaves them, for
            a model that adds position vectors to its input.
        qk_norm: RMS-normalize every head's queries and keys (https://arxiv.org/abs/2010.04245).
        use_bias: biases in both projections.
        output_initializer: of the output projection.

    Call arguments:
        x: (batch, length, d_model).
        training: whether dropout is on.

    Returns:
        (batch, length, d_model); row t depends on rows 0 to t only. So a mask of padding, as of
        `Embedding(mask_zero=True)`, is passed on and not read: padding that comes last is behind
        every row that counts, and padding elsewhere is attended to like any token.

    Raises:
        ConfigError: a ValueError, for an argument out of its range, when num_heads does not divide
            d_model, when the head size is odd with rotary, and for an input of another shape.
    """

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        positions: str = "rotary",
        qk_norm: bool = False,
        use_bias: bool = False,
        output_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_value("num_heads", num_heads, int, 1)
        self.dropout = check_part("dropout", dropout)
        self.positions = check_value("positions", positions, str, choices=POSITIONS)
        self.supports_masking = True
        self.qk_norm = check_value("qk_norm", qk_norm, bool)
        self.use_bias = check_value("use_bias", use_bias, bool)
        self.output_initializer = keras.initializers.get(output_initializer)

    def build(self, input_shape):
        if len(input_shape) != 3 or not input_shape[-1]:
            raise ConfigError(
                f"The input must be (batch, length, d_model), but got the shape {input_shape}."
            )
        d_model = input_shape[-1]
        self.input_spec = keras.InputSpec(ndim=3, axes={-1: d_model})
        if d_model % self.num_heads:
            raise ConfigError(
                f"num_heads must divide d_model, but {self.num_heads} does not divide {d_model}."
            )
        self.head_dim = d_model // self.num_heads
        scheme = POSITIONS[self.positions]
        if scheme.needs_even_heads and self.head_dim % 2:
            raise ConfigError(
                f"{scheme.label} positions need an even head size, but d_model {d_model} with "
                f"{self.num_heads} heads gives {self.head_dim}: choose another num_heads."
            )
        self.turning = scheme.load() if scheme.code else None
        dense = {"use_bias": self.use_bias, "dtype": self.dtype_policy}
        self.qkv = keras.layers.Dense(
            self.qkv_size,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="qkv",
            **dense,
        )
        self.output_projection = keras.layers.Dense(
            d_model, kernel_initializer=self.output_initializer, name="output", **dense
        )
        self.output_dropout = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        self.qkv.build(input_shape)
        self.output_projection.build(input_shape)

    def call(self, x, training=False):
        if x.shape[1] == 0:
            raise ConfigError("The input must have a length of at least 1, but got 0.")
        mixed = self.attend(*self.project(x, ops.arange(ops.shape(x)[1])))
        return self.output_dropout(self.merge_heads(mixed), training=training)

    @property
    def qkv_size(self) -> int:
        """Features per token of the queries, keys and values of all heads together."""
        return 3 * self.num_heads * self.head_dim

    def project(self, x, positions):
        """What `attend` takes, in its order: the heads of `x`, turned by `positions`."""
        return self.turn_heads(self.split_heads(x), positions)

    def split_heads(self, x) -> Heads:
        """The heads of `x` without positions, queries scaled by 1 / sqrt(head_dim)."""
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        # (batch, length, qkv_size) -> (3, batch, num_heads, length, head_dim)
        qkv = ops.reshape(self.qkv(x), (batch, length, 3, self.num_heads, self.head_dim))
        queries, keys, values = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3, axis=0)
        if self.qk_norm:
            queries, keys = ops.rms_normalization(queries), ops.rms_normalization(keys)
        return Heads(queries * self.head_dim**-0.5, keys, values)

    def turn_heads(self, heads: Heads, positions) -> Heads:
        """Queries and keys turned by their positions, where the scheme does so."""
        if not self.turning:
            return heads
        return heads._replace(
            queries=self.turning(heads.queries, positions), keys=self.turning(heads.keys, positions)
        )

    def merge_heads(self, mixed):
        """(batch, num_heads, length, head_dim) -> (batch, length, d_model), projected."""
        batch, length = ops.shape(mixed)[0], ops.shape(mixed)[2]
        mixed = ops.transpose(mixed, (0, 2, 1, 3))
        return self.output_projection(
            ops.reshape(mixed, (batch, length, self.num_heads * self.head_dim))
        )

    def decode(self, x, state, position):
        """The next tokens, from their keys and values on top of what came before.

        Args:
            x: (batch, length, d_model), the tokens from `position` on; up to AT_ONCE of them, and
                several only where `position` is a multiple of their number, within the context.
            state: from `initial_state` or the last call.
            position: scalar integer.

        Returns:
            (batch, length, d_model), and the new state.
        """
        batch, length = x.shape[:2]
        projected = self.project(x, position + ops.arange(length))
        # Sequences and heads on one axis: else XLA copies the rings instead of writing into them.
        flat = (ops.reshape(part, (-1, length, part.shape[-1])) for part in projected)
        mixed, state = self.attend_to_state(*flat, state=state, position=position)
        mixed = ops.reshape(mixed, (batch, self.num_heads, length, self.head_dim))
        return self.merge_heads(mixed), state

    def attention_weights(self, x):
        """The weights by which `call` mixes the values, for inspection.

        Args:
            x: (batch, length, d_model).

        Returns:
            (batch, num_heads, length, length) in float32: of each token, on each, summing to 1. A
            variant may put weights on other things than tokens before these.
        """
        length = x.shape[1]
        heads = self.project(x, ops.arange(length))
        scores = ops.matmul(heads.queries, ops.swapaxes(heads.keys, 2, 3))
        return masked_softmax(scores, ops.arange(length) <= ops.arange(length)[:, None])

    @property
    def at_once(self) -> int:
        """How many tokens of a prompt `decode` may be given at once."""
        return AT_ONCE

    def initial_state(self, batch_size: int, context_length: int):
        """The empty state: rings as long as the context."""
        shape = (batch_size * self.num_heads, context_length, self.head_dim)
        return Rings(ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))

    def attend_to_state(self, queries, keys, values, state, position):
        """Attention of each token to itself and to the last context_length - 1 before it.

        Args:
            queries, keys, values: (batch * num_heads, length, head_dim).
            state, position: as for `decode`.

        Returns:
            (batch * num_heads, length, head_dim), and the new state.
        """
        length, context_length = queries.shape[1], state.keys.shape[1]
        index = position % context_length
        all_keys = ops.slice_update(state.keys, (0, index, 0), keys)
        all_values = ops.slice_update(state.values, (0, index, 0), values)
        scores = ops.matmul(queries, ops.swapaxes(all_keys, 1, 2))  # (..., length, context)
        # Before the ring is full, what follows a token's own index holds nothing of its past.
        allowed = ops.arange(context_length) <= position + ops.arange(length)[:, None]
        weights = ops.cast(masked_softmax(scores, allowed), values.dtype)
        return ops.matmul(weights, all_values), Rings(all_keys, all_values)

    def attend(self, queries, keys, values):
        """The variant's mixture of values, (batch, num_heads, length, head_dim)."""
        raise NotImplementedError(f"{type(self).__name__} must define attend.")

    def attend_without_loops(self, *projected):
        """The same as `attend`, up to rounding, for exports to formats that have no loops."""
        return type(self).attend(self, *projected)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        config.update(
            num_heads=self.num_heads,
            dropout=self.dropout,
            positions=self.positions,
            qk_norm=self.qk_norm,
            use_bias=self.use_bias,
            output_initializer=keras.initializers.serialize(self.output_initializer),
        )
        return config
