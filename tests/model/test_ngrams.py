"""The embedding of several tokens at once: the right row for each group, whatever came before."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lm.model.ngrams import HASH, NONE, NgramEmbedding
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.model_config import ngram_tables

VOCAB, WIDTH = 7, 5


@pytest.fixture
def built(randomize):
    """Makes a layer with random weights."""

    def make(order: int, most_rows: int) -> NgramEmbedding:
        layer = NgramEmbedding(VOCAB, WIDTH, order, most_rows)
        layer.build((None, None))
        return randomize(layer)

    return make


def rows_by_hand(ids: list[int], size: int, num_rows: int) -> list[int]:
    """The row of the group of `size` tokens that ends at each token."""
    padded = [0] * (size - 1) + [token + 1 for token in ids]
    factor = VOCAB + 1 if num_rows == (VOCAB + 1) ** size else HASH
    rows = []
    for end in range(size, len(padded) + 1):
        group = padded[end - size : end]
        rows.append(sum(n * factor**k for k, n in enumerate(reversed(group))) % num_rows)
    return rows


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("most_rows", [1, 11, 63, 64, 65, 511, 512, 513])
def test_each_token_gets_the_rows_of_the_groups_that_end_there(built, small_ids, order, most_rows):
    layer = built(order, most_rows)
    ids = small_ids(3, 13) % VOCAB
    expected = np.zeros((3, 13, WIDTH))
    for size, table in enumerate(layer.tables, 2):
        rows = [rows_by_hand(row, size, table.input_dim) for row in ids.tolist()]
        expected += np.array(table.embeddings)[rows]
    np.testing.assert_allclose(layer(ids), expected, rtol=0, atol=1e-6)


def test_a_table_that_is_large_enough_has_a_row_for_each_group():
    assert ngram_tables(VOCAB, 3, 63) == [63, 63]
    assert ngram_tables(VOCAB, 3, 64) == [64, 64]
    assert ngram_tables(VOCAB, 3, 511) == [64, 511]
    assert ngram_tables(VOCAB, 3, 512) == [64, 512]
    assert ngram_tables(VOCAB, 1, 512) == []
    pairs = np.array(np.meshgrid(np.arange(VOCAB), np.arange(VOCAB))).reshape(2, -1).T
    layer = NgramEmbedding(VOCAB, WIDTH, order=2)
    layer.build(pairs.shape)
    numbers = np.arange(64.0)[:, None].repeat(WIDTH, 1)
    layer.tables[0].embeddings.assign(numbers)
    rows = np.array(layer(pairs))
    assert len({*rows[:, 1, 0], *rows[:, 0, 0]}) == 7 * 7 + 7


def test_a_hash_spreads_the_groups_evenly():
    layer = NgramEmbedding(1_000, 1, order=3, most_rows=4_096)
    layer.build((None, 3))
    for table in layer.tables:
        table.embeddings.assign(np.zeros((4_096, 1)))
    layer.tables[1].embeddings.assign(np.arange(4_096.0)[:, None])
    ids = np.random.default_rng(5).integers(0, 1_000, (20_000, 3))
    counts = np.bincount(np.array(layer(ids))[:, 2, 0].astype(int), minlength=4_096)
    mean = 20_000 / 4_096
    assert 0.9 * mean < counts.var() < 1.1 * mean  # of a Poisson distribution, it is the mean


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("cut", [1, 2, 3, 12])
def test_a_text_in_two_parts_is_the_same_text(built, small_ids, order, cut):
    layer = built(order, 100)
    ids = small_ids(3, 13) % VOCAB
    recent = np.full((3, order - 1), NONE, "int32")
    first = layer(ids[:, :cut], recent)
    recent = np.concatenate([recent, ids[:, :cut]], axis=1)[:, cut:]
    parts = np.concatenate([first, layer(ids[:, cut:], recent)], axis=1)
    np.testing.assert_array_equal(parts, layer(ids))


def test_it_adds_nothing_at_first(small_ids):
    np.testing.assert_array_equal(NgramEmbedding(23, WIDTH, order=3)(small_ids(2, 5)), 0.0)


def test_gradients_reach_only_the_rows_that_were_read(built):
    layer = built(2, 64)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant([[3, 1, 3, 1]])))
    gradient = np.array(tf.convert_to_tensor(tape.gradient(loss, layer.trainable_weights[0].value)))
    rows = rows_by_hand([3, 1, 3, 1], 2, 64)
    assert sorted({*rows}) == np.flatnonzero(gradient.any(axis=1)).tolist()
    np.testing.assert_array_equal(gradient[rows[1]], 2.0)


@pytest.mark.parametrize(
    ("name", "value"), [("vocab_size", 0), ("d_model", 0), ("order", 1), ("most_rows", 0)]
)
def test_arguments_out_of_their_range_are_named(name, value):
    arguments = {"vocab_size": 5, "d_model": 4} | {name: value}
    with pytest.raises(ConfigError, match=f"{name} must be"):
        NgramEmbedding(**arguments)
