"""Norms, feed-forward and the decoder block against plain NumPy."""

import math
import warnings

import keras
import numpy as np
import pytest

from keras_lm.model.layers import DecoderBlock, FeedForward, build_norm
from keras_lm.model.norms import NORM_EPSILON
from keras_lm.settings.config import ConfigError
from keras_lm.settings.variants import ATTENTIONS, NORMS
from tests.reference import draw

D_MODEL, FFN_DIM = 30, 17


# What has a formula in this file is compared with it.
def unit(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + NORM_EPSILON)


NORMALIZE = {  # of x and the norm's weights
    "layernorm": lambda x, gain, offset=0.0: unit(x - x.mean(-1, keepdims=True)) * gain + offset,
    "rmsnorm": lambda x, gain: unit(x) * gain,
}


def plain_norm(layer, x, norm):
    weights = (np.array(weight, "float64") for weight in layer.weights)
    return NORMALIZE[norm](x.astype("float64"), *weights)


ACTIVATE = {
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.where(x > 0, x, 0.0),
    "relu2": lambda x: np.where(x > 0, x * x, 0.0),
    "swiglu": lambda x: x[..., :FFN_DIM] / (1 + np.exp(-x[..., :FFN_DIM])) * x[..., FFN_DIM:],
}


def plain_feed_forward(layer, x):
    weights = [np.array(weight, "float64") for weight in layer.weights]
    if not layer.use_bias:
        weights = [weights[0], 0.0, weights[1], 0.0]
    up, up_bias, down, down_bias = weights
    return ACTIVATE[layer.activation](x.astype("float64") @ up + up_bias) @ down + down_bias


@pytest.mark.parametrize("norm", NORMALIZE)
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_norm_agrees_with_its_formula(randomize, norm, use_bias, scale):
    layer = build_norm(norm, use_bias)
    layer.build((None, None, D_MODEL))
    x = scale * (draw(2, 5, D_MODEL) + 3.0)
    expected = plain_norm(randomize(layer), x, norm)
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("norm", "use_bias", "weights"),
    [("rmsnorm", False, 1), ("rmsnorm", True, 1), ("layernorm", False, 1), ("layernorm", True, 2)],
)
def test_only_layernorm_has_an_offset_and_a_fresh_norm_normalizes(norm, use_bias, weights):
    layer = build_norm(norm, use_bias)
    x = draw(2, 5, D_MODEL)
    out = np.array(layer(x))
    assert len(layer.trainable_weights) == weights
    np.testing.assert_allclose((out**2).mean(-1), 1.0, rtol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATE)
@pytest.mark.parametrize("use_bias", [False, True])
def test_feed_forward_agrees_with_its_formula(randomize, activation, use_bias):
    layer = FeedForward(FFN_DIM, activation, use_bias)
    layer.build((None, None, D_MODEL))
    x = 2 * draw(2, 5, D_MODEL)
    expected = plain_feed_forward(randomize(layer), x)
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=3e-5)


@pytest.fixture
def make_block(randomize):
    def make(**arguments):
        block = DecoderBlock(3, FFN_DIM, **arguments)
        block.build((None, None, D_MODEL))
        return randomize(block)

    return make


@pytest.mark.parametrize("norm", NORMALIZE)
@pytest.mark.parametrize("activation", ACTIVATE)
def test_a_block_adds_attention_and_feed_forward_of_the_normed_stream(make_block, norm, activation):
    block = make_block(norm=norm, activation=activation, use_bias=True)
    x = draw(2, 5, D_MODEL)
    x_normed = plain_norm(block.attention_norm, x, norm).astype("float32")
    middle = x + np.array(block.attention(x_normed), "float64")
    expected = middle + plain_feed_forward(
        block.feed_forward, plain_norm(block.feed_forward_norm, middle, norm)
    )
    np.testing.assert_allclose(block(x), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_block_comes_back_from_its_config_as_it_was(make_block, attention):
    block = make_block(
        attention=attention,
        norm="layernorm",
        activation="gelu",
        dropout=0.1,
        positions="learned",
        qk_norm=True,
        use_bias=True,
        output_initializer=keras.initializers.RandomNormal(stddev=0.5),
        dtype="mixed_bfloat16",
        name="own_name",
    )
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(block))
    assert again.get_config() == block.get_config()
    again.set_weights(block.get_weights())
    x = draw(2, 5, D_MODEL)
    np.testing.assert_array_equal(again(x), block(x))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_dropout_acts_only_while_training_and_differs_each_time(make_block, attention):
    x = draw(2, 5, D_MODEL)
    block = make_block(attention=attention, dropout=0.3)
    np.testing.assert_array_equal(block(x), make_block(attention=attention)(x))
    np.testing.assert_array_equal(block(x, training=False), block(x))
    first, second = np.array(block(x, training=True)), np.array(block(x, training=True))
    assert (first != second).any()
    assert (first != np.array(block(x))).any()


def test_dropout_silences_both_branches(make_block):
    keras.utils.set_random_seed(1)
    x = draw(2, 5, D_MODEL)
    block = make_block(dropout=0.9999999)
    np.testing.assert_array_equal(block(x, training=True), x)


def test_two_projections_back_to_the_stream_start_apart():
    block = DecoderBlock(3, D_MODEL, output_initializer=keras.initializers.RandomNormal(0.0, 0.5))
    block.build((None, None, D_MODEL))
    first = np.array(block.attention.output_projection.kernel)
    second = np.array(block.feed_forward.down.kernel)
    assert first.shape == second.shape
    assert (first != second).all()
    np.testing.assert_allclose([first.std(), second.std()], 0.5, rtol=0.1)


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match=f"norm must be one of {', '.join(NORMS)}, but got 'batch'"
    ):
        build_norm("batch")
    with pytest.raises(ValueError, match="activation must be one of gelu, .* but got 'tanh'"):
        FeedForward(3, "tanh")


def test_matrices_begin_as_in_gpt2():
    block = DecoderBlock(num_heads=2, ffn_dim=257)
    block.build((None, 7, 128))
    for layer in (block.attention.qkv, block.feed_forward.up):
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        assert abs(kernel.mean()) < 0.001 and abs(kernel.std() - 0.02) < 0.001


def test_a_block_passes_a_mask_on_and_refuses_what_it_cannot_be():
    block = DecoderBlock(np.int64(2), ffn_dim=5)
    x = keras.layers.Embedding(9, 8, mask_zero=True)(np.array([[3, 1, 0]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mask = keras.src.backend.get_keras_mask(block(x))
    np.testing.assert_array_equal(mask, [[True, True, False]])
    assert type(block.get_config()["num_heads"]) is int
    bad = {"attention": "full", "ffn_dim": 0, "num_heads": 0, "dropout": 1}
    for name, value in (bad | {"qk_norm": 1, "use_bias": "no"}).items():
        with pytest.raises(ConfigError, match=f"^{name} must be"):
            DecoderBlock(**{"num_heads": 2, "ffn_dim": 5, name: value})
