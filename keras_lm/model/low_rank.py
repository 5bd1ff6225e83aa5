"""Low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685): few weights learn, the others stay.

To each of the four matrices of a block the product of two small ones is added, by Keras' own
`enable_lora`, whose gradients are the same in the compiled step. All else is frozen, except for
tokens that the model did not have before: their rows are trained whole.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from keras_lm.model.backend import keras, ops
from keras_lm.model.language_model import LanguageModel


@keras.saving.register_keras_serializable(package="keras_lm")
class NewTokens(keras.layers.Layer):
    """What is added to the vectors of some tokens while all others are frozen; zeros at first.

    Args:
        tokens: (num_new,), their ids.
        vocab_size: of the model.
        d_model: of the model.
        is_tied: whether the output layer is the embedding.

    Call arguments:
        ids: (batch, length) integers.

    Returns:
        What the embedding of these ids gets, (batch, length, d_model).

    Example:
        >>> NewTokens(np.array([2]), vocab_size=3, d_model=4, is_tied=True)(ops.array([[2]])).shape
        TensorShape([1, 1, 4])
    """

    def __init__(
        self,
        tokens: Sequence[int] | np.ndarray,
        vocab_size: int,
        d_model: int,
        is_tied: bool,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._config = {"vocab_size": vocab_size, "d_model": d_model, "is_tied": is_tied}
        self._config["tokens"] = np.asarray(tokens).tolist()
        self.slots = np.full(vocab_size, len(tokens), "int32")  # of the others: a row of zeros
        self.slots[np.asarray(tokens, int)] = np.arange(len(tokens))
        shape = (len(tokens), d_model)
        # Their names are those by which an optimizer knows embeddings and the output layer.
        self.embedding_rows = self._rows("embedding_rows", shape)
        self.output_rows = None if is_tied else self._rows("output_layer_rows", shape)
        self.built = True

    def _rows(self, name: str, shape: tuple[int, int]) -> keras.Variable:
        return self.add_weight(name=name, shape=shape, initializer="zeros", dtype="float32")

    def call(self, ids):
        return ops.cast(ops.take(self.added_to_embedding(), ids, axis=0), self.compute_dtype)

    def added_to_embedding(self):
        """(vocab_size, d_model) in float32."""
        return self._spread(self.embedding_rows)

    def added_to_output(self):
        """(d_model, vocab_size) in float32, for the output layer's matrix."""
        rows = self.embedding_rows if self.output_rows is None else self.output_rows
        return ops.transpose(self._spread(rows))

    def _spread(self, rows):
        # (num_new, d_model) -> (num_new + 1, d_model) -> (vocab_size, d_model)
        rows = ops.cast(rows, "float32")  # a call of the model in 16 bits reads them in 16
        return ops.take(ops.pad(rows, ((0, 1), (0, 0))), self.slots, axis=0)

    def compute_output_shape(self, ids_shape):
        return *ids_shape, self._config["d_model"]

    def get_config(self):
        return super().get_config() | self._config


def adapted_layers(model: LanguageModel) -> Iterator[keras.layers.Dense]:
    """The layers of a model that adapters are for: four per block."""
    for block in model.blocks:
        yield from (block.attention.qkv, block.attention.output_projection)
        yield from (block.feed_forward.up, block.feed_forward.down)


def add_adapters(model: LanguageModel, rank: int, new_tokens: np.ndarray) -> None:
    """Freezes a built model, except for new adapters and the rows of some tokens.

    Args:
        model: computes the same as before.
        rank: of the adapters, at least 1.
        new_tokens: (num_new,), ids of tokens that the model is to learn from nothing.
    """
    for variable in model.trainable_variables:
        variable.trainable = False
    for layer in adapted_layers(model):
        layer.enable_lora(rank)
    if len(new_tokens):
        model.add_new_tokens(
            NewTokens(
                new_tokens,
                model.config.vocab_size,
                model.config.d_model,
                model.output_layer is None,
                dtype=model.dtype_policy,
                name="new_tokens",
            )
        )


def plain_weights(model: LanguageModel) -> list[np.ndarray]:
    """`get_weights()` of the model without adapters that computes the same.

    Example:
        >>> from keras_lm.model.language_model import build_model
        >>> from keras_lm.settings.config import ModelConfig
        >>> model = build_model(ModelConfig(vocab_size=5, d_model=8, num_heads=2, num_blocks=1))
        >>> count = len(model.weights)
        >>> add_adapters(model, 2, np.array([4]))
        >>> len(model.weights) - count, len(plain_weights(model)) - count
        (10, 0)
    """
    added, own = {}, set()
    for layer in adapted_layers(model):
        if layer.lora_enabled:
            small = layer.lora_kernel_a, layer.lora_kernel_b
            own |= {variable.path for variable in small}
            product = np.matmul(*(np.asarray(variable) for variable in small))
            added[layer._kernel.path] = layer.lora_alpha / layer.lora_rank * product
    if (new := model.new_tokens) is not None:
        own |= {variable.path for variable in new.weights}
        added[model.embedding._embeddings.path] = np.asarray(new.added_to_embedding())
        if model.output_layer is not None:
            added[model.output_layer._kernel.path] = np.asarray(new.added_to_output())
    weights = ((v.path, np.array(v)) for v in model.weights if v.path not in own)
    return [array + added[path] if path in added else array for path, array in weights]
