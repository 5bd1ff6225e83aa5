"""Looking into a model: probabilities against plain formulas, maps that are what attention uses."""

import keras
import numpy as np
import pytest

from keras_lm.config import ATTENTIONS
from keras_lm.inspection import ALTERNATIVES, look_inside, score

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
    scores = score(model, ids)
    assert len(scores.of_next) == length - 1 and len(scores.entropies) == length
    read = 0
    for t in range(length):
        if t == read:  # a new window: half a context more
            read = CONTEXT if t == 0 else min(length, read + CONTEXT // 2)
        window = ids[max(0, min(read, length) - CONTEXT) : t + 1]
        assert len(window) > (CONTEXT // 2 if t >= CONTEXT else t)
        row = softmax(model(window[None])[0, -1])
        order = np.argsort(-row)[:ALTERNATIVES]
        np.testing.assert_array_equal(scores.alternatives[t], order)
        np.testing.assert_allclose(scores.probabilities[t], row[order], rtol=1e-4)
        np.testing.assert_allclose(scores.entropies[t], -(row * np.log(row)).sum(), rtol=1e-4)
        if t + 1 < length:
            np.testing.assert_allclose(scores.of_next[t], row[ids[t + 1]], rtol=1e-4)
    expected = np.exp(np.mean(-np.log(scores.of_next)))
    np.testing.assert_allclose(scores.perplexity, expected, rtol=1e-12)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_last_guess_is_the_models_own_and_the_first_knows_one_token_only(
    small_model, small_ids, mechanism
):
    model, ids = small_model(**mechanism), small_ids(CONTEXT)
    insides, scores = look_inside(model, ids, block=1), score(model, ids)
    assert insides.alternatives.shape == (3, CONTEXT, ALTERNATIVES)
    np.testing.assert_array_equal(insides.alternatives[-1], scores.alternatives)
    np.testing.assert_allclose(insides.probabilities[-1], scores.probabilities, rtol=1e-5)
    np.testing.assert_allclose(insides.of_next[-1], scores.of_next, rtol=1e-5)
    other = ids.copy()
    other[:-1] = (ids[:-1] + 1) % VOCAB
    changed = look_inside(model, other, block=1)
    np.testing.assert_array_equal(changed.probabilities[0, -1], insides.probabilities[0, -1])
    assert not np.allclose(changed.probabilities[1, -1], insides.probabilities[1, -1])


def test_a_guess_between_is_that_of_the_model_without_the_later_blocks(small_model, small_ids):
    model, ids = small_model(), small_ids(CONTEXT)
    shorter = small_model(num_blocks=1)
    for name in ("embedding", "final_norm", "output_layer"):
        getattr(shorter, name).set_weights(getattr(model, name).get_weights())
    shorter.blocks[0].set_weights(model.blocks[0].get_weights())
    insides, expected = look_inside(model, ids, block=0), score(shorter, ids)
    np.testing.assert_array_equal(insides.alternatives[1], expected.alternatives)
    np.testing.assert_allclose(insides.of_next[1], expected.of_next, rtol=1e-5)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("block", [0, 1])
def test_the_maps_are_what_the_block_mixes_its_values_by(small_model, small_ids, mechanism, block):
    model, ids = small_model(positions="rotary", qk_norm=True, **mechanism), small_ids(CONTEXT)
    insides = look_inside(model, ids, block)
    assert insides.window.shape == (3, CONTEXT, CONTEXT)
    num_slots = model.config.num_slots if mechanism["attention"] == "linear" else 0
    assert insides.slots.shape == (3, CONTEXT, num_slots)
    total = insides.window.sum(-1) + insides.slots.sum(-1)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)
    assert (insides.window[:, ~np.tri(CONTEXT, dtype=bool)] == 0).all()

    stream = keras.ops.add(model.embed(ids[None], np.arange(CONTEXT)), 0.0)
    for layer in model.blocks[:block]:
        stream = layer(stream)
    layer = model.blocks[block]
    x, attention = layer.attention_norm(stream), layer.attention
    values = np.array(attention.project(x, np.arange(CONTEXT))[2])[0]  # (heads, length, head_dim)
    mixed = insides.window @ values
    seen = (insides.window > 0).any(axis=0)
    if mechanism is SLOTS:
        early = slice(0, 2 * SLOTS["chunk_length"])  # no slot holds anything yet
        assert (insides.slots[:, early] == 0).all() and (insides.slots[:, early.stop :] > 0).all()
        assert seen[7:, 0].sum() == 0 and seen[7, 3:8].all()
        mixed = mixed[:, early]
    ours = attention.merge_heads(mixed[None].astype("float32"))
    np.testing.assert_allclose(ours[0], attention(x)[0, : mixed.shape[1]], rtol=0, atol=1e-5)
