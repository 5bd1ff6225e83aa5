"""The language model: its size, its logits, decoding, precision, saving."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lm.generation.generator import Generator
from keras_lm.model.attention.base import masked_softmax
from keras_lm.model.language_model import build_model
from keras_lm.model.tracing import traced
from keras_lm.settings.config import ConfigError, GenerationConfig, TrainingConfig
from keras_lm.settings.variants import ACTIVATIONS, ATTENTIONS, NORMS, POSITIONS
from keras_lm.training.optimizers import create_optimizer
from keras_lm.training.train_step import CompiledSteps
from tests import gpt2

VOCAB, CONTEXT = 23, 11


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_parameter_count_is_exact(small_config, attention, positions, norm, activation):
    for tied, use_bias in itertools.product((False, True), repeat=2):
        config = small_config(
            attention=attention,
            positions=positions,
            norm=norm,
            activation=activation,
            tie_embeddings=tied,
            use_bias=use_bias,
        )
        assert build_model(config).count_params() == config.parameter_count()


def test_the_extras_of_the_recipe_and_dropout_have_no_weights(small_config):
    plain = small_config()
    extras = small_config(qk_norm=True, logit_soft_cap=15.0, zero_init=True, dropout=0.1)
    counts = [build_model(config).count_params() for config in (plain, extras)]
    assert counts == [plain.parameter_count(), extras.parameter_count()] == [counts[0]] * 2


def test_every_weight_is_trained_and_moves_the_logits(small_model, small_ids):
    model = small_model(positions="learned", use_bias=True, norm="layernorm", activation="gelu")
    ids = small_ids(3, CONTEXT)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(
                np.roll(ids, -1), model(ids), from_logits=True
            )
        )
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert len(gradients) == len(model.weights)
    for weight, gradient in zip(model.weights, gradients, strict=True):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, weight.path


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_logits_are_float32_of_the_right_shape_in_every_precision(
    small_model, small_ids, dtype, tied
):
    model = small_model(dtype, tie_embeddings=tied)
    ids = small_ids(3, CONTEXT)
    logits = model(ids)
    assert (logits.shape, logits.dtype) == ((3, CONTEXT, VOCAB), "float32")
    assert all(weight.dtype == "float32" for weight in model.weights)
    plain = np.array(small_model("float32", tie_embeddings=tied)(ids))
    distance = np.abs(np.array(logits) - plain).max() / plain.std()
    assert distance <= {"float32": 0, "mixed_float16": 1e-2, "mixed_bfloat16": 1e-1}[dtype]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("length", [1, 2, CONTEXT - 1])
def test_a_shorter_text_gets_the_same_logits(small_model, small_ids, positions, length):
    model = small_model(positions=positions)
    ids = small_ids(3, CONTEXT)
    full = np.array(model(ids))[:, :length]
    np.testing.assert_allclose(model(ids[:, :length]), full, rtol=0, atol=3e-6)


@pytest.mark.parametrize("cap", [0.5, 3.0])
def test_the_soft_cap_bounds_the_logits(small_model, small_ids, cap):
    ids = small_ids(3, CONTEXT)
    plain = np.array(small_model()(ids), "float64")
    capped = np.array(small_model(logit_soft_cap=cap)(ids))
    assert np.abs(plain).max() > cap / 2
    assert np.abs(capped).max() <= cap
    np.testing.assert_allclose(capped, cap * np.tanh(plain / cap), rtol=0, atol=1e-6)


def test_zero_init_begins_with_a_uniform_distribution(small_config, small_ids):
    model = build_model(small_config(zero_init=True))
    ids = small_ids(3, CONTEXT)
    np.testing.assert_array_equal(model(ids), 0.0)
    x = model.embed(ids, np.arange(CONTEXT))
    np.testing.assert_array_equal(model.blocks[0](x), x)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_fresh_model_is_near_the_uniform_distribution(small_config, small_ids, norm, activation):
    logits = build_model(small_config(norm=norm, activation=activation))(small_ids(3, CONTEXT))
    losses = -np.array(keras.ops.log_softmax(logits))
    np.testing.assert_allclose(losses.mean(), math.log(VOCAB), rtol=0, atol=0.02)


def decode(model, ids, at_once=1):
    """Logits after each `at_once` tokens of ids (batch, length), from the states alone."""
    state, rows, step = model.initial_state(len(ids)), [], traced(model.decode)
    for t in range(0, ids.shape[1], at_once):
        logits, state = step(tf.constant(ids[:, t : t + at_once]), state, tf.constant(t))
        rows.append(logits)
    return np.stack(rows, axis=1)


@pytest.fixture
def in_full(monkeypatch):
    """Logits of one pass over ids of any length, in which no token sees beyond the context."""

    def run(model, ids):
        attention, context_length = model.blocks[0].attention, model.config.context_length

        def attend(self, queries, keys, values, *_):
            distance = np.arange(ids.shape[1])[:, None] - np.arange(ids.shape[1])
            scores = keras.ops.matmul(queries, keras.ops.swapaxes(keys, 2, 3))
            weights = masked_softmax(scores, (distance >= 0) & (distance < context_length))
            return keras.ops.matmul(keras.ops.cast(weights, values.dtype), values)

        with monkeypatch.context() as patch:
            if len(attention.initial_state(1, context_length)) == 2:  # no slots, which see all
                patch.setattr(type(attention), "attend", attend)
            return np.array(model(ids))

    return run


LINEAR = {"attention": "linear", "chunk_length": 2, "num_slots": 3}
SHORT = 5  # a context that is soon full
MECHANISMS = [{"attention": name} for name in ATTENTIONS] + [LINEAR]
MECHANISM_NAMES = [*ATTENTIONS, "linear with slots"]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=MECHANISM_NAMES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_decoding_equals_one_pass_past_every_wrap_around(
    small_model, small_ids, in_full, mechanism, norm, activation
):
    model = small_model(context_length=SHORT, norm=norm, activation=activation, **mechanism)
    ids = small_ids(3, 3 * SHORT + 2)
    np.testing.assert_allclose(decode(model, ids), in_full(model, ids), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=MECHANISM_NAMES)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_decoding_in_half_precision_is_as_exact_as_one_pass(
    small_model, small_ids, in_full, mechanism, policy
):
    for norm, activation in zip(itertools.cycle(NORMS), ACTIVATIONS):
        changes = mechanism | {"norm": norm, "activation": activation, "context_length": SHORT}
        ids, model = small_ids(3, 3 * SHORT + 2), small_model(policy, **changes)
        exact = in_full(small_model(**changes), ids)
        error, error_of_one_pass = (
            np.abs(logits - exact) for logits in (decode(model, ids), in_full(model, ids))
        )
        assert error.max() <= 2 * error_of_one_pass.max()
        assert error.mean() <= 2 * error_of_one_pass.mean()


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_decoding_equals_the_full_pass_with_learned_positions(small_model, small_ids, attention):
    model = small_model(
        attention=attention,
        positions="learned",
        tie_embeddings=True,
        use_bias=True,
        qk_norm=True,
        logit_soft_cap=3.0,
    )
    ids = small_ids(3, CONTEXT)
    np.testing.assert_allclose(decode(model, ids), model(ids), rtol=0, atol=3e-6)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("at_once", [1, 2])
def test_decoding_knows_the_tokens_before(small_model, small_ids, order, at_once):
    changes = {"ngram_order": order, "ngram_rows": 100, "positions": "learned"}
    model = small_model(context_length=12, **changes)
    ids = small_ids(3, 12)
    expected = model(ids)[:, at_once - 1 :: at_once]
    np.testing.assert_allclose(decode(model, ids, at_once), expected, rtol=0, atol=1e-5)
    assert np.abs(small_model(context_length=12, positions="learned")(ids) - model(ids)).max() > 0.1


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(
    ("mechanism", "at_once"),
    [
        *(({"attention": name}, 16 if e.is_exact else None) for name, e in ATTENTIONS.items()),
        (LINEAR | {"chunk_length": 64}, 16),
        (LINEAR | {"chunk_length": 4}, 4),
        (LINEAR | {"chunk_length": 6}, 2),
        (LINEAR | {"chunk_length": 5}, 1),
    ],
)
def test_a_prompt_may_be_read_in_blocks(small_model, small_ids, mechanism, at_once, positions):
    model = small_model(context_length=50, positions=positions, **mechanism)
    at_once = at_once or model.at_once
    assert model.at_once == at_once
    ids = small_ids(3, 48)
    expected = model(ids)[:, at_once - 1 :: at_once]
    np.testing.assert_allclose(decode(model, ids, at_once), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_order_of_the_tokens_matters(small_model, small_ids, positions):
    model = small_model(positions=positions)
    ids = small_ids(1, CONTEXT)
    swapped = ids[:, [1, 0, *range(2, CONTEXT)]]
    assert ids[0, 0] != ids[0, 1]
    assert np.abs(np.array(model(ids)) - np.array(model(swapped)))[:, -1].max() > 1e-2


def test_the_same_token_at_another_learned_position_is_another_input(small_model):
    model = small_model(positions="learned")
    logits = np.array(model(np.full((1, CONTEXT), 5)))[0]
    differences = np.abs(np.diff(logits, axis=0)).max(axis=-1)
    assert (differences > 1e-2).all()


def test_rotary_logits_of_one_repeated_token_are_all_alike(small_model):
    logits = np.array(small_model()(np.full((1, CONTEXT), 5)))[0]
    np.testing.assert_allclose(logits, logits[:1].repeat(CONTEXT, 0), rtol=0, atol=3e-6)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_xla_equals_eager(small_model, small_ids, attention):
    model = small_model(attention=attention)
    ids = small_ids(3, CONTEXT)
    compiled = tf.function(model, jit_compile=True)(tf.constant(ids))
    np.testing.assert_allclose(compiled, model(ids), rtol=0, atol=3e-6)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("positions", POSITIONS)
def test_plain_keras_saving_and_loading_changes_no_bit(
    small_model, small_ids, tmp_path, attention, positions
):
    model = small_model(attention=attention, positions=positions, dropout=0.1, use_bias=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert (again.config, again.tokenizer) == (model.config, model.tokenizer)
    ids = small_ids(3, CONTEXT)
    np.testing.assert_array_equal(again(ids), model(ids))


def test_dropout_acts_only_while_training(small_model, small_ids):
    ids = small_ids(3, CONTEXT)
    model = small_model(dropout=0.3)
    plain = np.array(small_model()(ids))
    np.testing.assert_array_equal(model(ids), plain)
    assert np.abs(np.array(model(ids, training=True)) - plain).max() > 0.1


@pytest.mark.parametrize(
    "change",
    [{"config": {"surprise": 1}}, {"config": None}, {"config": {"vocab_size": 0}}],
    ids=["unknown field", "no config", "no vocabulary"],
)
def test_a_model_is_not_made_from_a_bad_config(small_model, change):
    with pytest.raises(ConfigError, match="has no field|must be a JSON object|needs vocab_size"):
        type(small_model()).from_config(change)


@pytest.fixture(scope="module")
def transformers_gpt2():
    """Weights and output of the GPT-2 of `transformers`, by `python -m benchmarks.gpt2 --write`."""
    with np.load(gpt2.FIXTURE) as arrays:
        return dict(arrays)


def test_it_gives_the_logits_of_gpt2(transformers_gpt2):
    model = gpt2.language_model(transformers_gpt2)
    logits = model(transformers_gpt2["ids"])
    np.testing.assert_allclose(logits, transformers_gpt2["logits"], rtol=0, atol=1e-5)


def test_it_writes_what_gpt2_writes(transformers_gpt2):
    model = gpt2.language_model(transformers_gpt2)
    prompt = transformers_gpt2["prompt"]
    greedy = gpt2.greedy_ids(model, prompt, gpt2.NEW_TOKENS)
    np.testing.assert_array_equal(greedy, transformers_gpt2["greedy"])
    settings = GenerationConfig(max_new_tokens=gpt2.NEW_TOKENS, temperature=0.0)
    cached = list(Generator(model).stream(prompt[0].tolist(), settings))
    assert cached == transformers_gpt2["greedy"][0, gpt2.PROMPT_LENGTH :].tolist()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 3], r"The ids must be \(batch, length\), but got the shape \(2,\)."),
        ([[0, 23]], "The ids must be between 0 and 22, but got 23."),
        ([[-1, 3]], "The ids must be between 0 and 22, but got -1."),
        ([[0] * 12], "the ids must have a length of at most 11, the context, but got 12."),
    ],
)
def test_ids_that_are_out_of_range_or_too_many_are_refused(small_model, ids, message):
    with pytest.raises(ConfigError, match=message):
        small_model(positions="learned")(np.array(ids))


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}])
def test_low_rank_adapters_on_the_output_train_and_generate(small_model, small_ids, changes):
    model = small_model(**changes)
    layer = model.embedding if changes else model.output_layer
    before = np.array(model(small_ids(1, 11)))
    layer.enable_lora(2)
    np.testing.assert_allclose(np.array(model(small_ids(1, 11))), before, atol=1e-5)
    optimizer = create_optimizer(TrainingConfig(warmup_steps=0, learning_rate=0.1), model)
    frozen = np.array(model.blocks[0].feed_forward.up.kernel)
    CompiledSteps(model, optimizer, small_ids(60), jit_compile=False).train_steps(
        np.zeros((3, 2), "int32")
    )
    after = np.array(model(small_ids(1, 11)))
    assert np.abs(after - before).max() > 1e-3
    assert np.abs(np.array(model.blocks[0].feed_forward.up.kernel) - frozen).max() > 0
    (token,) = Generator(model, jit_compile=False).stream(
        small_ids(11), GenerationConfig(max_new_tokens=1, temperature=0.0)
    )
    assert token == after[0, -1].argmax()
