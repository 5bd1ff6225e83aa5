"""Looking into a model: probabilities against plain formulas, maps that are what attention uses."""

import keras
import numpy as np
import pytest

from keras_lm.generation.bundle import load
from keras_lm.generation.inspection import (
    ALTERNATIVES,
    MOST_SHOWN,
    Reading,
    Window,
    inspect,
    probabilities_of_next,
)
from keras_lm.settings.variants import ATTENTIONS

VOCAB, CONTEXT = 23, 11
SLOTS = {"attention": "linear", "chunk_length": 3, "num_slots": 5}
MECHANISMS = [{"attention": name} for name in ATTENTIONS] + [SLOTS]


def softmax(logits):
    weights = np.exp(np.array(logits, "float64"))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("length", [2, CONTEXT - 1, CONTEXT, CONTEXT + 1, 3 * CONTEXT + 4])
def test_each_token_is_scored_by_those_before_it(small_model, small_ids, positions, length):
    model, ids = small_model(positions=positions), small_ids(length)
    scores = Reading(model, ids).scores
    assert scores.of_next.shape == (3, length - 1) and scores.entropies.shape == (3, length)
    read = 0
    for t in range(length):
        if t == read:  # a new window: half a context more
            read = CONTEXT if t == 0 else min(length, read + CONTEXT // 2)
        window = ids[max(0, min(read, length) - CONTEXT) : t + 1]
        assert len(window) > (CONTEXT // 2 if t >= CONTEXT else t)
        row = softmax(model(window[None])[0, -1])
        order = np.argsort(-row)[:ALTERNATIVES]
        np.testing.assert_array_equal(scores.alternatives[-1, t], order)
        np.testing.assert_allclose(scores.probabilities[-1, t], row[order], rtol=1e-4)
        np.testing.assert_allclose(scores.entropies[-1, t], -(row * np.log(row)).sum(), rtol=1e-4)
        if t + 1 < length:
            np.testing.assert_allclose(scores.of_next[-1, t], row[ids[t + 1]], rtol=1e-4)
    expected = np.exp(np.mean(-np.log(scores.of_next[-1])))
    np.testing.assert_allclose(scores.perplexity, expected, rtol=1e-12)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_last_guess_is_the_models_own_and_the_first_knows_one_token_only(
    small_model, small_ids, mechanism
):
    model, ids = small_model(**mechanism), small_ids(CONTEXT)
    scores = Reading(model, ids).scores
    assert scores.alternatives.shape == (3, CONTEXT, ALTERNATIVES)
    rows = softmax(model(ids[None])[0])
    order = np.argsort(-rows, axis=-1)[:, :ALTERNATIVES]
    np.testing.assert_array_equal(scores.alternatives[-1], order)
    np.testing.assert_allclose(
        scores.probabilities[-1], np.take_along_axis(rows, order, axis=-1), rtol=1e-5
    )
    np.testing.assert_allclose(scores.of_next[-1], rows[np.arange(CONTEXT - 1), ids[1:]], rtol=1e-5)
    other = ids.copy()
    other[:-1] = (ids[:-1] + 1) % VOCAB
    changed = Reading(model, other).scores
    np.testing.assert_allclose(changed.probabilities[0, -1], scores.probabilities[0, -1], rtol=1e-6)
    assert not np.allclose(changed.probabilities[1, -1], scores.probabilities[1, -1])


def test_a_guess_between_is_that_of_the_model_without_the_later_blocks(small_model, small_ids):
    model, ids = small_model(), small_ids(3 * CONTEXT)
    shorter = small_model(num_blocks=1)
    for name in ("embedding", "final_norm", "output_layer"):
        getattr(shorter, name).set_weights(getattr(model, name).get_weights())
    shorter.blocks[0].set_weights(model.blocks[0].get_weights())
    scores, expected = Reading(model, ids).scores, Reading(shorter, ids).scores
    np.testing.assert_array_equal(scores.alternatives[1], expected.alternatives[-1])
    np.testing.assert_allclose(scores.of_next[1], expected.of_next[-1], rtol=1e-5)


def test_the_least_likely_token_has_a_probability(small_model, small_ids):
    model = small_model(tie_embeddings=False)
    model.output_layer.kernel.assign(60.0 * model.output_layer.kernel)
    scores = Reading(model, small_ids(CONTEXT)).scores
    assert (scores.of_next > 0).all() and np.isfinite(scores.perplexity)
    assert np.isfinite(scores.entropies).all()


def test_a_model_whose_weights_give_no_numbers_is_refused_in_a_sentence(small_model, small_ids):
    model = small_model()
    model.final_norm.weights[0].assign(np.full(model.final_norm.weights[0].shape, 3e38, "float32"))
    with pytest.raises(ValueError, match="gives no probabilities for this text"):
        Reading(model, small_ids(5))


def test_the_maps_hold_the_chosen_token_and_what_its_window_reads(sound):
    """Each guess is taken from the window in which it was scored."""
    bundle = load(sound)  # context 11
    text = "abcdefghij" * 9
    for token in (1, 11, 12, 47, 90, None):
        result = inspect(bundle, text, token)
        row = result["token"] - 1
        assert result["first"] <= row < result["last"] <= result["first"] + MOST_SHOWN
        assert result["begin"] <= result["first"] and row - result["begin"] < CONTEXT
        heads, rows, columns = result["looks"]["shape"]
        assert (heads, columns) == (3, CONTEXT) and rows == result["last"] - result["first"]
        ids = bundle.tokenizer.encode(text)
        own = softmax(bundle.model(np.array([ids[result["begin"] : row + 1]]))[0, -1])
        np.testing.assert_allclose(
            result["probabilities"][-1][row][0], own.max(), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("block", [0, 1])
def test_the_maps_are_what_the_block_mixes_its_values_by(small_model, small_ids, mechanism, block):
    model, ids = small_model(positions="rotary", qk_norm=True, **mechanism), small_ids(CONTEXT)
    maps = Reading(model, ids).attention(Window(0, 0, CONTEXT), block)
    assert maps.tokens.shape == (3, CONTEXT, CONTEXT)
    num_slots = model.config.num_slots if mechanism["attention"] == "linear" else 0
    assert maps.slots.shape == (3, CONTEXT, num_slots)
    total = maps.tokens.sum(-1) + maps.slots.sum(-1)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)
    assert (maps.tokens[:, ~np.tri(CONTEXT, dtype=bool)] == 0).all()

    stream = keras.ops.add(model.embed(ids[None], np.arange(CONTEXT)), 0.0)
    for layer in model.blocks[:block]:
        stream = layer(stream)
    layer = model.blocks[block]
    x, attention = layer.attention_norm(stream), layer.attention
    values = attention.project(x, np.arange(CONTEXT)).values
    values = np.array(values)[0]  # (heads, length, head_dim)
    mixed = maps.tokens @ values
    seen = (maps.tokens > 0).any(axis=0)
    if mechanism is SLOTS:
        early = slice(0, 2 * SLOTS["chunk_length"])  # no slot holds anything yet
        assert (maps.slots[:, early] == 0).all() and (maps.slots[:, early.stop :] > 0).all()
        assert seen[7:, 0].sum() == 0 and seen[7, 3:8].all()
        mixed = mixed[:, early]
    ours = attention.merge_heads(mixed[None].astype("float32"))
    np.testing.assert_allclose(ours[0], attention(x)[0, : mixed.shape[1]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_probabilities_are_the_models_own_and_leave_it_as_it_is(
    small_model, small_ids, mechanism, policy
):
    model = small_model(policy, num_blocks=1, dropout=0.5, **mechanism)
    before = [np.array(variable) for variable in model.variables]
    for length in (2, CONTEXT + 1):
        ids = small_ids(length)
        found = probabilities_of_next(model, ids)
        rows = softmax(model(ids[None, :-1])[0])
        np.testing.assert_allclose(found, rows[np.arange(length - 1), ids[1:]], rtol=1e-5)
    after = [np.array(variable) for variable in model.variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
