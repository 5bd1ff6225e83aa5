"""Norms, the feed-forward layer and the decoder block."""

from keras_lm.model.attention import ATTENTION_LAYERS
from keras_lm.model.backend import keras, ops
from keras_lm.model.products import multiply, scale_features
from keras_lm.settings.checks import check_value, plain
from keras_lm.settings.config import ACTIVATIONS, NORMS

NORM_EPSILON = 1e-5


def build_norm(norm: str, use_bias: bool = False, **kwargs) -> keras.layers.Layer:
    """LayerNorm (https://arxiv.org/abs/1607.06450) or RMSNorm (https://arxiv.org/abs/1910.07467).

    Args:
        norm: "layernorm" or "rmsnorm".
        use_bias: whether LayerNorm has an offset; RMSNorm has none.
        **kwargs: of the Keras layer, such as `dtype` and `name`.

    Raises:
        ConfigError: for any other norm.
    """
    check_value("norm", norm, str, choices=NORMS)
    if norm == "rmsnorm":
        return RMSNormalization(epsilon=NORM_EPSILON, **kwargs)
    return LayerNormalization(epsilon=NORM_EPSILON, center=use_bias, **kwargs)


class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' layer over the last axis, in float32, with `scale_features`' gradient of its scale.

    Call arguments and result: (..., d_model).
    """

    def call(self, inputs):
        x = ops.layer_normalization(ops.cast(inputs, "float32"), epsilon=self.epsilon)
        x = scale_features(x, self.gamma)
        return ops.cast(x if self.beta is None else x + self.beta, self.compute_dtype)


class RMSNormalization(keras.layers.RMSNormalization):
    """Keras' layer over the last axis, in float32, with `scale_features`' gradient of its scale.

    Call arguments and result: (..., d_model).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        x = ops.rms_normalization(ops.cast(inputs, "float32"), epsilon=self.epsilon)
        return ops.cast(scale_features(x, ops.cast(self.scale, "float32")), self.compute_dtype)


class DownProjection(keras.layers.Dense):
    """Keras' Dense with `multiply`'s gradient, for a kernel that has more rows than columns.

    Call arguments and result: (..., ffn_dim) -> (..., d_model).
    """

    def call(self, inputs, training=None):
        x = ops.reshape(inputs, (-1, inputs.shape[-1]))  # (tokens, ffn_dim)
        x = multiply(x, self.kernel)  # (tokens, d_model)
        if self.bias is not None:
            x = x + self.bias
        return ops.reshape(x, (*ops.shape(inputs)[:-1], self.units))


@keras.saving.register_keras_serializable(package="keras_lm")
class FeedForward(keras.layers.Layer):
    """Two linear layers around a non-linearity; with SwiGLU, a third as its gate.

    Args:
        ffn_dim: width inside.
        activation: "gelu" (tanh form), "relu", "relu2" (its square,
            https://arxiv.org/abs/2109.08668) or "swiglu" (https://arxiv.org/abs/2002.05202).
        use_bias: biases in the linear layers.
        output_initializer: of the layer back to d_model.

    Call arguments:
        x: (..., d_model).

    Returns:
        (..., d_model).
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
        self.use_bias = use_bias
        self.output_initializer = keras.initializers.get(output_initializer)

    def build(self, input_shape):
        dense = {"use_bias": self.use_bias, "dtype": self.dtype_policy}
        inside = self.ffn_dim * (2 if self.activation == "swiglu" else 1)
        self.up = keras.layers.Dense(
            inside,
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
        return self.down(self._activate(self.up(x)))

    def _activate(self, x):
        if self.activation == "swiglu":  # (..., 2 * ffn_dim) -> (..., ffn_dim)
            gate, x = ops.split(x, 2, axis=-1)
            return ops.silu(gate) * x
        if self.activation == "relu2":
            return ops.square(ops.relu(x))
        return ops.relu(x) if self.activation == "relu" else ops.gelu(x, approximate=True)

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
        attention: a key of ATTENTION_LAYERS.
        norm: "layernorm" or "rmsnorm".
        activation: as FeedForward's.
        dropout: after attention and after the feed-forward layer, 0 to below 1.
        positions, qk_norm, use_bias: as CausalSelfAttention's.
        output_initializer: of the two projections that write to the residual stream.
        chunk_length, num_slots: as LinearAttention's; no other attention uses them.

    Call arguments:
        x: (batch, length, d_model).
        training: whether dropout is on.

    Returns:
        (batch, length, d_model).
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
        chunk_length: int = 64,
        num_slots: int = 32,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_value("attention", attention, str, choices=ATTENTION_LAYERS)
        self.supports_masking = True
        self.arguments = {
            "num_heads": plain(num_heads),
            "ffn_dim": plain(ffn_dim),
            "attention": attention,
            "norm": norm,
            "activation": activation,
            "dropout": plain(dropout),
            "positions": positions,
            "qk_norm": qk_norm,
            "use_bias": use_bias,
            "chunk_length": plain(chunk_length),
            "num_slots": plain(num_slots),
        }
        self.output_initializer = keras.initializers.get(output_initializer)
        shared = {"dtype": self.dtype_policy, "use_bias": use_bias}
        of_linear = {"chunk_length": chunk_length, "num_slots": num_slots}
        # An initializer without a seed must not be shared: each layer gets one of its own.
        self.attention_norm = build_norm(norm, name="attention_norm", **shared)
        self.attention = ATTENTION_LAYERS[attention](
            num_heads,
            dropout,
            positions,
            qk_norm,
            output_initializer=self.output_initializer.clone(),
            name="attention",
            **shared,
            **(of_linear if attention == "linear" else {}),
        )
        self.feed_forward_norm = build_norm(norm, name="feed_forward_norm", **shared)
        self.feed_forward = FeedForward(
            ffn_dim,
            activation,
            output_initializer=self.output_initializer.clone(),
            name="feed_forward",
            **shared,
        )
        self.feed_forward_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

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
