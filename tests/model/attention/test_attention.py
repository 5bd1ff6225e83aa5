"""Attention: causality to the bit, a plain reference, rotary positions, decoding, precision."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lm.model.attention import StandardAttention, rotate
from keras_lm.model.attention.standard import FEWEST_ROWS, MOST_BLOCKS
from keras_lm.settings.config import ConfigError
from keras_lm.settings.variants import ATTENTIONS, POSITIONS
from tests.reference import decode, draw

HEADS, HEAD_DIM = 3, 10
D_MODEL = HEADS * HEAD_DIM
NAMES = list(ATTENTIONS)
EXACT_NAMES = [name for name, entry in ATTENTIONS.items() if entry.is_exact]


@pytest.fixture
def make_layer(randomize):
    def make(name, /, num_heads=HEADS, d_model=D_MODEL, **arguments):
        layer = ATTENTIONS[name].load()(num_heads, **arguments)
        layer.build((None, None, d_model))
        return randomize(layer)

    return make


def reference(layer, x, band=None):
    """Causal attention in float64, written down plainly; `band`: how many tokens are seen."""

    def dense(inputs, part):
        bias = np.array(part.bias, "float64") if part.use_bias else 0.0
        return inputs @ np.array(part.kernel, "float64") + bias

    batch, length, d_model = x.shape
    heads, size = layer.num_heads, d_model // layer.num_heads
    qkv = dense(x.astype("float64"), layer.qkv).reshape(batch, length, 3, heads, size)
    queries, keys, values = np.moveaxis(qkv, 2, 0)  # (batch, length, heads, size)
    if layer.qk_norm:
        queries, keys = (
            part / np.sqrt(np.mean(part**2, -1, keepdims=True) + 1e-7) for part in (queries, keys)
        )
    if layer.positions == "rotary":
        half = size // 2
        frequencies = 10_000.0 ** (-np.arange(half) / half)
        turns = np.exp(1j * np.arange(length)[:, None] * frequencies)[:, None]
        queries, keys = (
            np.concatenate([turned.real, turned.imag], -1)
            for turned in (
                (part[..., :half] + 1j * part[..., half:]) * turns for part in (queries, keys)
            )
        )
    scores = np.einsum("bthd,bshd->bhts", queries, keys) / np.sqrt(size)
    distance = np.arange(length)[:, None] - np.arange(length)
    scores[..., (distance < 0) | (distance >= (band or length))] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhts,bshd->bthd", weights, values)
    return dense(mixed.reshape(x.shape), layer.output_projection)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_the_future_changes_no_bit_of_the_past(make_layer, name, xla):
    length = FEWEST_ROWS + 5
    layer = make_layer(name)
    attend = tf.function(layer, jit_compile=xla)
    x = draw(2, length, D_MODEL)
    before = attend(tf.constant(x)).numpy()
    for t in (1, 2, FEWEST_ROWS - 1, FEWEST_ROWS, FEWEST_ROWS + 1, length - 1):
        other = x.copy()
        other[:, t:] = 50 * draw(2, length - t, D_MODEL, seed=t)
        after = attend(tf.constant(other)).numpy()
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (np.abs(after[:, t:] - before[:, t:]).max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize("name", [n for n in NAMES if ATTENTIONS[n].sees_whole_past])
def test_gradients_reach_all_of_the_past_and_none_of_the_future(make_layer, name):
    layer = make_layer(name)
    x = tf.constant(draw(1, FEWEST_ROWS + 3, D_MODEL))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        rows = tf.unstack(tf.reduce_sum(layer(x) * draw(D_MODEL, seed=1), axis=(0, 2)))
    for t in (0, 1, FEWEST_ROWS - 1, FEWEST_ROWS, FEWEST_ROWS + 1):
        size = np.abs(tape.gradient(rows[t], x)[0]).max(axis=-1)
        assert (size[: t + 1] > 0).all()
        assert (size[t + 1 :] == 0).all()


@pytest.mark.parametrize("name", EXACT_NAMES)
@pytest.mark.parametrize("length", [1, FEWEST_ROWS - 1, FEWEST_ROWS, FEWEST_ROWS + 1, 131])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"qk_norm": True, "use_bias": True},
        {"positions": "learned", "use_bias": True},
    ],
    ids=["rotary", "qk_norm", "no rotary"],
)
def test_it_agrees_with_a_plain_reference(make_layer, name, length, arguments):
    layer = make_layer(name, **arguments)
    x = draw(2, length, D_MODEL)
    np.testing.assert_allclose(layer(x), reference(layer, x), rtol=0, atol=1e-5)


def test_blocks_of_rows_are_few_and_cover_each_row_once_with_its_own_past(monkeypatch):
    blocks, real = [], StandardAttention._attend_rows

    def recorded(self, queries, keys, values, first_row):
        blocks.append((range(first_row, first_row + queries.shape[2]), keys.shape[3]))
        return real(self, queries, keys, values, first_row)

    monkeypatch.setattr(StandardAttention, "_attend_rows", recorded)
    most = FEWEST_ROWS * MOST_BLOCKS
    for length in (1, FEWEST_ROWS, FEWEST_ROWS + 1, most - 1, most, most + 1, 2 * most + 7):
        blocks.clear()
        StandardAttention(1).attend(*[tf.zeros((1, 1, length, 2))] * 3)
        assert [row for rows, _ in blocks for row in rows] == list(range(length))
        assert all(num_keys == rows.stop for rows, num_keys in blocks)
        assert all(len(rows) >= FEWEST_ROWS for rows, _ in blocks[:-1])
        assert len(blocks) <= MOST_BLOCKS


@pytest.mark.parametrize("name", NAMES)
def test_a_length_that_is_known_only_when_it_runs_gives_the_same(make_layer, name):
    layer = make_layer(name)
    attend = tf.function(layer, input_signature=[tf.TensorSpec((None, None, D_MODEL))])
    x = draw(2, FEWEST_ROWS + 3, D_MODEL)
    np.testing.assert_allclose(attend(x), layer(x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shift", [1, 63, 997])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_rotary_scores_depend_on_the_distance_only(make_layer, name, shift, qk_norm):
    layer = make_layer(name, qk_norm=qk_norm)
    x = draw(2, 7, D_MODEL)

    def scores(query_shift, key_shift):
        queries, *_ = layer.project(x, np.arange(7) + query_shift)
        _, keys, *_ = layer.project(x, np.arange(7) + key_shift)
        return np.einsum("bhtd,bhsd->bhts", queries, keys)

    here = scores(0, 0)
    np.testing.assert_allclose(scores(shift, shift), here, rtol=0, atol=1e-4)
    assert np.abs(scores(shift, 0) - here).max() > 0.1


def test_rotation_keeps_position_0_and_every_length():
    x = draw(2, 3, 5, 6)
    turned = np.array(rotate(x, np.array([0, 1, 2, 50, 1000])))
    np.testing.assert_array_equal(turned[..., 0, :], x[..., 0, :])
    np.testing.assert_allclose(
        np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-6
    )
    assert np.abs(turned[..., 1:, :] - x[..., 1:, :]).max(axis=-1).min() > 1e-2


def test_without_rotary_the_order_of_the_past_does_not_matter(make_layer):
    layer = make_layer("standard", positions="learned")
    x = draw(2, 7, D_MODEL)
    shuffled = x[:, [3, 0, 5, 2, 4, 1, 6]]
    np.testing.assert_allclose(layer(x)[:, -1], layer(shuffled)[:, -1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_decoding_token_by_token_equals_the_full_pass(make_layer, name, positions):
    layer = make_layer(name, positions=positions, qk_norm=True, use_bias=True)
    x = draw(2, 13, D_MODEL)
    np.testing.assert_allclose(decode(layer, x, 13), layer(x), rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", EXACT_NAMES)
@pytest.mark.parametrize("context_length", [1, 2, 7])
def test_decoding_past_the_context_sees_the_last_tokens_only(make_layer, name, context_length):
    layer = make_layer(name)
    x = draw(2, 17, D_MODEL)
    expected = reference(layer, x, band=context_length)
    np.testing.assert_allclose(decode(layer, x, context_length), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_does_not_grow(make_layer, name):
    layer = make_layer(name)
    state = layer.initial_state(2, 7)
    shapes = [tuple(part.shape) for part in tf.nest.flatten(state)]
    for t in range(9):
        _, state = layer.decode(draw(2, 1, D_MODEL), state, tf.constant(t))
        assert [tuple(part.shape) for part in tf.nest.flatten(state)] == shapes


@pytest.mark.parametrize("name", NAMES)
def test_the_width_must_be_a_multiple_of_the_heads(name):
    for d_model in (29, 31):
        with pytest.raises(ValueError, match=f"3 does not divide {d_model}"):
            ATTENTIONS[name].load()(3).build((None, None, d_model))


@pytest.mark.parametrize("name", NAMES)
def test_rotary_positions_need_an_even_head_size(make_layer, name):
    with pytest.raises(ValueError, match="d_model 15 with 3 heads gives 5: choose another"):
        ATTENTIONS[name].load()(3).build((None, None, 15))
    make_layer(name, d_model=15, positions="learned")


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_back_from_its_config_as_it_was(make_layer, name):
    layer = make_layer(
        name,
        dropout=0.1,
        positions="learned",
        qk_norm=True,
        use_bias=True,
        output_initializer=keras.initializers.RandomNormal(stddev=0.5),
        dtype="mixed_bfloat16",
        name="own_name",
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    again.set_weights(layer.get_weights())
    x = draw(2, 5, D_MODEL)
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize("name", NAMES)
def test_variants_share_the_first_weights_so_that_these_pass_between_them(make_layer, name):
    for use_bias in (False, True):
        plain, variant = (make_layer(n, use_bias=use_bias).weights for n in ("standard", name))
        shared = [(weight.name, weight.shape) for weight in variant[: len(plain)]]
        assert shared == [(weight.name, weight.shape) for weight in plain]
        assert [weight.name for weight in plain] == (
            ["kernel", "bias"] if use_bias else ["kernel"]
        ) * 2


@pytest.mark.parametrize("name", NAMES)
def test_dropout_acts_only_while_training(make_layer, name):
    layer = make_layer(name, dropout=0.3)
    x = draw(7, 13, D_MODEL)
    plain = np.array(layer(x))
    np.testing.assert_array_equal(layer(x, training=False), plain)
    dropped = np.array(layer(x, training=True))
    silenced = dropped == 0
    assert 0.25 < silenced.mean() < 0.35
    np.testing.assert_allclose(dropped[~silenced], plain[~silenced] / 0.7, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("policy", "dtype", "tolerance"),
    [
        ("float32", "float32", 0.0),
        ("mixed_float16", "float16", 1e-2),
        ("mixed_bfloat16", "bfloat16", 8e-2),
    ],
)
def test_every_precision_is_finite_and_close_to_float32(make_layer, name, policy, dtype, tolerance):
    x = draw(2, FEWEST_ROWS + 1, D_MODEL)
    out = make_layer(name, qk_norm=True, dtype=policy)(x)
    assert out.dtype == dtype
    out = np.array(tf.cast(out, "float32"))
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out, make_layer(name, qk_norm=True)(x), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_heads": 0}, "num_heads must be at least 1, but got 0."),
        ({"num_heads": -3}, "num_heads must be at least 1, but got -3."),
        ({"num_heads": 2.0}, "num_heads must be a whole number, but got 2.0."),
        ({"dropout": -1}, "dropout must be at least 0, but got -1."),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1, but got 1."),
        ({"qk_norm": 3}, "qk_norm must be true or false, but got 3."),
        ({"use_bias": "no"}, "use_bias must be true or false, but got 'no'."),
        (
            {"positions": "rotory"},
            f"positions must be one of {', '.join(POSITIONS)}, but got 'rotory'.",
        ),
    ],
)
def test_an_argument_out_of_its_range_is_refused_when_the_layer_is_made(name, arguments, message):
    with pytest.raises(ConfigError) as refused:
        ATTENTIONS[name].load()(**{"num_heads": 2, **arguments})
    assert str(refused.value) == message


@pytest.mark.parametrize("argument", ["chunk_length", "num_slots"])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_linear_attention_refuses_sizes_that_are_none(argument, value):
    with pytest.raises(ConfigError, match=f"{argument} must be (at least 1|a whole number), but"):
        ATTENTIONS["linear"].load()(2, **{argument: value})


@pytest.mark.parametrize("name", NAMES)
def test_an_input_of_another_shape_is_refused_in_a_sentence(name):
    for shape in [(5, 8), (8,), (2, 3, 5, 8)]:
        with pytest.raises(ConfigError, match="must be .batch, length, d_model., but got"):
            ATTENTIONS[name].load()(2)(np.zeros(shape, "float32"))
    with pytest.raises(ConfigError, match="3 does not divide 8"):
        ATTENTIONS[name].load()(3)(np.zeros((1, 5, 8), "float32"))
    layer = ATTENTIONS[name].load()(2)
    with pytest.raises(ConfigError, match="length of at least 1"):
        layer(np.zeros((1, 0, 8), "float32"))
    layer(np.zeros((1, 5, 8), "float32"))
    for shape in [(5, 8), (1, 5, 6)]:
        with pytest.raises(ValueError, match="incompatible with the layer"):
            layer(np.zeros(shape, "float32"))


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_numpy_are_numbers(name):
    layer = ATTENTIONS[name].load()(np.int64(2), dropout=np.float32(0.5))
    assert type(layer.get_config()["num_heads"]) is int
    assert type(layer.get_config()["dropout"]) is float


@pytest.mark.parametrize("name", NAMES)
def test_padding_at_the_end_changes_no_row_that_counts_and_its_mask_is_passed_on(name):
    embedding = keras.layers.Embedding(9, 8, mask_zero=True)
    options = ATTENTIONS[name].own_options({"chunk_length": 2, "num_slots": 3})
    layer = ATTENTIONS[name].load()(2, **options)
    ids = np.array([[3, 1, 4, 1, 5, 8, 2], [2, 7, 1, 8, 2, 6, 4]])
    whole = np.array(layer(embedding(ids)))
    ids[0, 5:] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        padded = layer(embedding(ids))
    np.testing.assert_array_equal(np.array(keras.src.backend.get_keras_mask(padded)), ids != 0)
    np.testing.assert_allclose(np.array(padded)[0, :5], whole[0, :5], atol=1e-6)
    np.testing.assert_allclose(np.array(padded)[1], whole[1], atol=1e-6)
