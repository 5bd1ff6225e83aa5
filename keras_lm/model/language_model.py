"""The language model: embedding, decoder blocks, final norm, output layer."""

from typing import Any, NamedTuple

from keras_lm.model.backend import keras, ops, tf
from keras_lm.model.layers import DecoderBlock, build_norm
from keras_lm.model.ngrams import NONE, NgramEmbedding
from keras_lm.settings.config import ConfigError, ModelConfig
from keras_lm.settings.variants import POSITIONS

INITIAL_STDDEV = 0.02  # GPT-2's


class DecodingState(NamedTuple):
    """What a model keeps of the tokens that `decode` was given.

    Attributes:
        blocks: the states of the decoder blocks.
        recent: (batch, ngram_order - 1) integers, the last tokens; NONE before the first.
    """

    blocks: list[Any]
    recent: tf.Tensor


@keras.saving.register_keras_serializable(package="keras_lm")
class LanguageModel(keras.Model):
    """A decoder-only transformer that predicts the next token.

    Args:
        config: its shape.
        tokenizer: the tokenizer's JSON object, which a saved model carries along; or None.
        **kwargs: of `keras.Model`, such as `dtype` (a policy's name).

    Call arguments:
        ids: (batch, length) integers below vocab_size; length up to context_length, with rotary
            positions also above. Only uncompiled calls check the ids: XLA silently takes the
            nearest one that exists.
        training: whether dropout is on.

    Returns:
        Logits in float32, (batch, length, vocab_size).

    Raises:
        ConfigError: for ids of another shape, out of their range, or too many for learned
            positions.

    Example:
        >>> model = LanguageModel(ModelConfig(vocab_size=5, d_model=8, num_heads=2, num_blocks=1))
        >>> model(ops.array([[3, 1, 4]])).shape
        TensorShape([1, 3, 5])
    """

    def __init__(self, config: ModelConfig, tokenizer: dict | None = None, **kwargs):
        super().__init__(**kwargs)
        if not config.vocab_size:
            raise ConfigError("A model needs vocab_size, but got 0: take it from the tokenizer.")
        self.config = config
        self.tokenizer = tokenizer
        policy = self.dtype_policy
        self.embedding = keras.layers.Embedding(
            config.vocab_size,
            config.d_model,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=INITIAL_STDDEV),
            dtype=policy,
            name="embedding",
        )
        self.position_embedding = None
        if POSITIONS[config.positions].has_table:
            self.position_embedding = keras.layers.Embedding(
                config.context_length,
                config.d_model,
                embeddings_initializer=keras.initializers.RandomNormal(stddev=INITIAL_STDDEV),
                dtype=policy,
                name="position_embedding",
            )
        self.ngram_embedding = None
        if config.ngram_order > 1:
            self.ngram_embedding = NgramEmbedding(
                config.vocab_size,
                config.d_model,
                config.ngram_order,
                config.ngram_rows,
                dtype=policy,
                name="ngram_embedding",
            )
        self.blocks = [self._build_block(index) for index in range(config.num_blocks)]
        self.final_norm = build_norm(
            config.norm, config.use_bias, config.own_options(), dtype=policy, name="final_norm"
        )
        self.output_layer = None
        if not config.tie_embeddings:
            self.output_layer = keras.layers.Dense(
                config.vocab_size,
                use_bias=False,
                kernel_initializer=self._output_initializer(INITIAL_STDDEV),
                dtype=policy,
                name="output_layer",
            )
        self.new_tokens: keras.layers.Layer | None = None

    def add_new_tokens(self, layer: keras.layers.Layer) -> None:
        """Lets a built model add to the vectors of some tokens: a `low_rank.NewTokens`."""
        self._tracker.unlock()  # as Keras' own adapters do
        self.new_tokens = layer
        self._tracker.lock()

    def _build_block(self, index: int) -> DecoderBlock:
        config = self.config
        return DecoderBlock(
            config.num_heads,
            config.ffn_dim,
            attention=config.attention,
            norm=config.norm,
            activation=config.activation,
            dropout=config.dropout,
            positions=config.positions,
            qk_norm=config.qk_norm,
            use_bias=config.use_bias,
            # The stream is a sum of 2 * num_blocks outputs: keep its variance at the start.
            output_initializer=self._output_initializer(
                INITIAL_STDDEV / (2 * config.num_blocks) ** 0.5
            ),
            options=config.own_options(),
            dtype=self.dtype_policy,
            name=f"block_{index}",
        )

    def _output_initializer(self, stddev: float) -> keras.initializers.Initializer:
        return keras.initializers.RandomNormal(stddev=0.0 if self.config.zero_init else stddev)

    def build(self, input_shape):
        stream_shape = (*input_shape, self.config.d_model)
        for layer in (self.embedding, self.position_embedding, self.ngram_embedding):
            if layer is not None:
                layer.build(input_shape)
        for layer in (*self.blocks, self.final_norm, self.output_layer):
            if layer is not None:
                layer.build(stream_shape)
        self.built = True

    def call(self, ids, training=False):
        self._check_ids(ids)
        return self.predict_logits(self.hidden(ids, training))

    def _check_ids(self, ids):
        context_length, vocab_size = self.config.context_length, self.config.vocab_size
        if len(ids.shape) != 2:
            raise ConfigError(f"The ids must be (batch, length), but got the shape {ids.shape}.")
        if self.position_embedding is not None and (ids.shape[1] or 0) > context_length:
            raise ConfigError(
                "With learned positions, the ids must have a length of at most "
                f"{context_length:,}, the context, but got {ids.shape[1]:,}."
            )
        if tf.executing_eagerly() and isinstance(ids, tf.Tensor) and tf.size(ids):
            low, high = int(tf.reduce_min(ids)), int(tf.reduce_max(ids))
            if low < 0 or high >= vocab_size:
                raise ConfigError(
                    f"The ids must be between 0 and {vocab_size - 1:,}, but got "
                    f"{low if low < 0 else high:,}."
                )

    def hidden(self, ids, training=False):
        """Ids (batch, length) -> the normed stream (batch, length, d_model), before the logits."""
        x = self.embed(ids, ops.arange(ops.shape(ids)[1]))
        for block in self.blocks:
            x = block(x, training=training)
        return self.final_norm(x)

    def embed(self, ids, positions, recent=None):
        """The stream before the first block.

        Args:
            ids: (batch, length) integers.
            positions: (length,) integers, theirs.
            recent: as in DecodingState, the tokens before them; None: there are none.

        Returns:
            (batch, length, d_model).
        """
        x = self.embedding(ids)
        if self.new_tokens is not None:
            x = x + self.new_tokens(ids)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        if self.ngram_embedding is not None:
            x = x + self.ngram_embedding(ids, recent)
        return x

    def output_kernel(self):
        """The output layer's matrix, (d_model, vocab_size), in float32."""
        if self.output_layer is None:
            kernel = ops.transpose(_in_float32(self.embedding.embeddings))
        else:
            kernel = _in_float32(self.output_layer.kernel)
        return kernel if self.new_tokens is None else kernel + self.new_tokens.added_to_output()

    def predict_logits(self, x):
        """Normed stream (batch, length, d_model) -> float32 logits (batch, length, vocab_size)."""
        logits = ops.cast(ops.matmul(x, ops.cast(self.output_kernel(), x.dtype)), "float32")
        cap = self.config.logit_soft_cap
        return cap * ops.tanh(logits / cap) if cap else logits

    def initial_state(self, batch_size: int) -> DecodingState:
        """The state before the first token, for `decode`."""
        context_length = self.config.context_length
        blocks = [block.initial_state(batch_size, context_length) for block in self.blocks]
        recent = tf.fill((batch_size, self.config.ngram_order - 1), NONE)
        return DecodingState(blocks, recent)

    @property
    def at_once(self) -> int:
        """How many tokens of a prompt `decode` may be given at once."""
        return self.blocks[0].attention.at_once

    def decode(self, ids, state: DecodingState, position):
        """The next tokens of each sequence, after those that `state` has kept.

        Args:
            ids: (batch, length) integers; `length` is 1, or `at_once` while a prompt is read, from
                a multiple of `at_once` on and within the context.
            state: from `initial_state` or the last call.
            position: scalar integer, how many tokens precede them. Past the context, rotary models
                see the last context_length tokens.

        Returns:
            The last token's logits (batch, vocab_size) in float32, and the new state.
        """
        # Learned positions end with the context; only a text's last token, unused, comes after.
        positions = position + ops.arange(ids.shape[1])
        positions = ops.minimum(positions, self.config.context_length - 1)
        x = self.embed(ids, positions, state.recent)
        blocks = []
        for block, kept in zip(self.blocks, state.blocks, strict=True):
            x, kept = block.decode(x, kept, position)
            blocks.append(kept)
        logits = self.predict_logits(self.final_norm(x[:, -1:]))[:, 0]
        # (batch, ngram_order - 1 + length) -> (batch, ngram_order - 1)
        recent = ops.concatenate([state.recent, ids], axis=1)[:, ids.shape[1] :]
        return logits, DecodingState(blocks, recent)

    def compute_output_shape(self, input_shape):
        return *input_shape, self.config.vocab_size

    def get_config(self):
        config = {"config": self.config.to_dict(), "tokenizer": self.tokenizer}
        return super().get_config() | config

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": ModelConfig.from_dict(config["config"])})


def _in_float32(matrix):
    """A weight as it is kept, whatever the precision; with LoRA, the sum that Keras makes of it."""
    return ops.cast(getattr(matrix, "value", matrix), "float32")


def build_model(config: ModelConfig, dtype: str | None = None) -> LanguageModel:
    """A built model with fresh weights.

    Args:
        config: its shape; vocab_size must be given.
        dtype: a Keras dtype policy such as "mixed_float16"; None: Keras' global one.

    Returns:
        A model that takes int32 ids (batch, length <= context_length) and gives float32 logits
        (batch, length, vocab_size).

    Example:
        >>> config = ModelConfig(vocab_size=5, d_model=8, num_heads=2, num_blocks=1, ffn_dim=16)
        >>> build_model(config)(ops.array([[3, 1, 4]])).shape
        TensorShape([1, 3, 5])
    """
    model = LanguageModel(config, dtype=dtype)
    model.build((None, config.context_length))
    return model
