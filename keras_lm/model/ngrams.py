"""Embeddings of several tokens at once: a vector for each group of the last two, three, ... tokens.

A table with a row for each group is exact. Where that is too large, groups share the rows of a
smaller one, to which a hash assigns them.
"""

from keras_lm.model.backend import keras, ops
from keras_lm.settings.checks import check_value
from keras_lm.settings.model_config import ngram_tables

NONE = -1  # in place of a token before the text's beginning
HASH = 1_000_003  # a prime; times a row's index it is far below 2**53, exact in any language


@keras.saving.register_keras_serializable(package="keras_lm")
class NgramEmbedding(keras.layers.Layer):
    """The sum of what is learned of the last two tokens together, of the last three, and so on.

    As in "Over-Tokenized Transformer" (https://arxiv.org/abs/2501.16975). The vectors begin at
    zero: at first the layer adds nothing.

    Args:
        vocab_size: how many different tokens there are.
        d_model: width of the vectors.
        order: tokens of the longest groups, 2 to 4.
        most_rows: a table with a row for each group has at most so many; larger ones are hashed.

    Call arguments:
        ids: (batch, length) integers below vocab_size.
        before: (batch, order - 1) integers, the tokens before these, NONE where there is none;
            None: the text begins with `ids`.

    Returns:
        (batch, length, d_model); row t depends on the ids up to t only.

    Example:
        >>> layer = NgramEmbedding(vocab_size=5, d_model=8, order=2)
        >>> layer(ops.array([[3, 1, 4]])).shape
        TensorShape([1, 3, 8])
    """

    def __init__(
        self, vocab_size: int, d_model: int, order: int = 2, most_rows: int = 16_384, **kwargs
    ):
        super().__init__(**kwargs)
        self.vocab_size = check_value("vocab_size", vocab_size, int, 1, 2**20 + 2**17)
        self.d_model = check_value("d_model", d_model, int, 1)
        self.order = check_value("order", order, int, 2, 4)
        self.most_rows = check_value("most_rows", most_rows, int, 1, 2**24)
        self.tables = [
            keras.layers.Embedding(
                num_rows,
                d_model,
                embeddings_initializer="zeros",
                dtype=self.dtype_policy,
                name=f"embedding_of_{size}",
            )
            for size, num_rows in enumerate(ngram_tables(vocab_size, order, most_rows), 2)
        ]

    def build(self, input_shape):
        for table in self.tables:
            table.build(input_shape)

    def call(self, ids, before=None):
        if before is None:
            joined = ops.pad(ids, ((0, 0), (self.order - 1, 0)), constant_values=NONE)
        else:
            joined = ops.concatenate([before, ids], axis=1)
        joined = ops.cast(joined, "int64") + 1  # (batch, order - 1 + length); 0 before the text
        return sum(
            table(self._rows(joined, size, table.input_dim))
            for size, table in enumerate(self.tables, 2)
        )

    def _rows(self, joined, size: int, num_rows: int):
        """The rows of the groups that end at each token.

        Args:
            joined: (batch, order - 1 + length) of 0 to vocab_size.
            size: tokens per group.
            num_rows: of the table.

        Returns:
            (batch, length).
        """
        factor = self.vocab_size + 1 if num_rows == (self.vocab_size + 1) ** size else HASH
        rows = 0
        for back in range(size - 1, -1, -1):  # from a group's first token to its last
            tokens = joined[:, self.order - 1 - back : -back or None]  # (batch, length)
            rows = (rows * factor + tokens) % num_rows
        return rows

    def compute_output_shape(self, ids_shape, before_shape=None):
        return *ids_shape, self.d_model

    def get_config(self):
        config = {name: getattr(self, name) for name in ("vocab_size", "d_model", "order")}
        return super().get_config() | config | {"most_rows": self.most_rows}
