"""The feed-forward layer and the decoder block, of whichever variants."""

from typing import Any

from keras_lm.model.backend import keras, ops
from keras_lm.model.products import multiply
from keras_lm.settings.checks import check_value, plain
from keras_lm.settings.variants import ACTIVATIONS, ATTENTIONS, NORMS


def build_norm(
    norm: str, use_bias: bool = False, options: dict[str, Any] | None = None, **kwargs
) -> keras.layers.Layer:
    """The layer of a norm.

    Args:
        norm: a name in NORMS.
        use_bias: whether it has an offset, if it can have one.
        options: of any variant, by name; the norm gets its own.
        **kwargs: of the Keras layer, such as `dtype` and `name`.

    Raises:
        ConfigError: for any other norm.

    Example:
        >>> build_norm("layernorm")(ops.array([[1.0, 3.0]])).numpy().round(3).tolist()
        [[-1.0, 1.0]]
    """
    check_value("norm", norm, str, choices=NORMS)
    own = NORMS[norm].own_options(options or {})
    return NORMS[norm].load()(use_bias=use_bias, **own, **kwargs)


@keras.saving.register_keras_serializable(package="keras_lm")
class DownProjection(keras.layers.Dense):
    """Keras' Dense with `multiply`'s gradient, for a kernel that has more rows than columns.

    Call arguments and result: (..., ffn_dim) -> (..., d_model).

    Example:
        >>> DownProjection(4)(ops.ones((2, 3, 8))).shape
        TensorShape([2, 3, 4])
    """

    def call(self, inputs, training=None):
        x = ops.reshape(inputs, (-1, inputs.shape[-1]))  # (tokens, ffn_dim)
        x = multiply(x, self.kernel)  # (tokens, d_model)
        if self.bias is not None:
            x = x + self.bias
        return ops.reshape(x, (*ops.shape(inputs)[:-1], self.units))


@keras.saving.register_keras_serializable(package="keras_lm")
class FeedForward(keras.layers.Layer):
    """Two linear layers around a non-linearity.

    Args:
        ffn_dim: width inside.
        activation: a name in ACTIVATIONS.
        use_bias: biases in the linear layers.
        output_initializer: of the layer back to d_model.

    Call arguments:
        x: (..., d_model).

    Returns:
        (..., d_model).

    Example:
        >>> FeedForward(ffn_dim=16, activation="relu2")(ops.ones((2, 3, 8))).shape
        TensorShape([2, 3, 8])
    """

    def __init__(
        self,
        ffn_dim: int,
        activation: str = "gelu",
        use_bias: bool = False,
        output_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.ffn_dim = check_value("ffn_dim", ffn_dim, int, 1)
        self.activation = check_value("activation", activation, str, choices=ACTIVATIONS)
        self.supports_masking = True
        self.use_bias = check_value("use_bias", use_bias, bool)
        self.output_initializer = keras.initializers.get(output_initializer)

    def build(self, input_shape):
        dense = {"use_bias": self.use_bias, "dtype": self.dtype_policy}
        variant = ACTIVATIONS[self.activation]
        self.activate = variant.load()
        self.up = keras.layers.Dense(
            self.ffn_dim * variant.width,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="up",
            **dense,
        )
        self.down = DownProjection(
            input_shape[-1], kernel_initializer=self.output_initializer, name="down", **dense
        )
        self.up.build(input_shape)
        self.down.build((*input_shape[:-1], self.ffn_dim))

    def call(self, x):
        return self.down(self.activate(self.up(x)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        config.update(
            ffn_dim=self.ffn_dim,
            activation=self.activation,
            use_bias=self.use_bias,
            output_initializer=keras.initializers.serialize(self.output_initializer),
        )
        return config


@keras.saving.register_keras_serializable(package="keras_lm")
class DecoderBlock(keras.layers.Layer):
    """A pre-norm transformer block: norm, attention, residual, norm, feed-forward, residual.

    Args:
        num_heads: attention heads.
        ffn_dim: width inside the feed-forward layer.
        attention, norm, activation: names in ATTENTIONS, NORMS and ACTIVATIONS.
        dropout: after attention and after the feed-forward layer, 0 to below 1.
        positions, qk_norm, use_bias: as CausalSelfAttention's.
        output_initializer: of the two projections that write to the residual stream.
        options: of the variants, by name, such as `chunk_length`; each gets its own.

    Call arguments:
        x: (batch, length, d_model).
        training: whether dropout is on.

    Returns:
        (batch, length, d_model).

    Example:
        >>> DecoderBlock(num_heads=2, ffn_dim=16, attention="flash")(ops.ones((2, 3, 8))).shape
        TensorShape([2, 3, 8])
    """

    def __init__(
        self,
        num_heads: int,
        ffn_dim: int,
        attention: str = "standard",
        norm: str = "rmsnorm",
        activation: str = "swiglu",
        dropout: float = 0.0,
        positions: str = "rotary",
        qk_norm: bool = False,
        use_bias: bool = False,
        output_initializer="glorot_uniform",
        options: dict[str, Any] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_value("attention", attention, str, choices=ATTENTIONS)
        self.supports_masking = True
        options = {name: plain(value) for name, value in (options or {}).items()}
        self.arguments = {
            "num_heads": plain(num_heads),
            "ffn_dim": plain(ffn_dim),
            "attention": attention,
            "norm": norm,
            "activation": activation,
            "dropout": plain(dropout),
            "positions": positions,
            "qk_norm": plain(qk_norm),
            "use_bias": plain(use_bias),
            "options": options,
        }
        self.output_initializer = keras.initializers.get(output_initializer)
        shared = {"dtype": self.dtype_policy, "use_bias": use_bias}
        # An initializer without a seed must not be shared: each layer gets one of its own.
        self.attention_norm = self._build_norm("attention_norm")
        self.attention = ATTENTIONS[attention].load()(
            num_heads,
            dropout,
            positions,
            qk_norm,
            output_initializer=self.output_initializer.clone(),
            name="attention",
            **shared,
            **ATTENTIONS[attention].own_options(options),
        )
        self.feed_forward_norm = self._build_norm("feed_forward_norm")
        self.feed_forward = FeedForward(
            ffn_dim,
            activation,
            output_initializer=self.output_initializer.clone(),
            name="feed_forward",
            **shared,
        )
        self.feed_forward_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def _build_norm(self, name: str) -> keras.layers.Layer:
        arguments = {key: self.arguments[key] for key in ("norm", "use_bias", "options")}
        return build_norm(**arguments, name=name, dtype=self.dtype_policy)

    def build(self, input_shape):
        for layer in (
            self.attention_norm,
            self.attention,
            self.feed_forward_norm,
            self.feed_forward,
        ):
            layer.build(input_shape)

    def call(self, x, training=False):
        x = x + self.attention(self.attention_norm(x), training=training)
        out = self.feed_forward(self.feed_forward_norm(x))
        return x + self.feed_forward_dropout(out, training=training)

    def initial_state(self, batch_size: int, context_length: int):
        """The attention's state before the first token."""
        return self.attention.initial_state(batch_size, context_length)

    def decode(self, x, state, position):
        """The tokens x (batch, length, d_model) from `position` on; the new stream and state."""
        mixed, state = self.attention.decode(self.attention_norm(x), state, position)
        x = x + mixed
        return x + self.feed_forward(self.feed_forward_norm(x)), state

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        initializer = keras.initializers.serialize(self.output_initializer)
        return super().get_config() | self.arguments | {"output_initializer": initializer}
