"""Samplers against plain formulas, by definition and by distribution."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_lm.generation import sampling
from keras_lm.generation.sampling import (
    filter_candidates,
    repetition_penalty,
    sample_tokens,
    sampling_settings,
)
from keras_lm.settings.config import GenerationConfig

VOCAB = 23


def settings_of(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The values of all filters; by default none does anything."""
    config = GenerationConfig(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    return sampling_settings(config)


def probabilities_and_ids(logits, *settings):
    left = filter_candidates(tf.constant(logits), settings_of(*settings))
    return left.probabilities, left.ids


def sample(logits, settings, draws):
    return sample_tokens(
        tf.constant(logits), tf.zeros(logits.shape, bool), settings_of(*settings), draws
    )


def plain_filter(logits, temperature, top_k, top_p, min_p=0.0):
    """One row's distribution after the filters, by token id, in float64."""
    order = sorted(range(len(logits)), key=lambda id: -logits[id])
    if temperature == 0:
        order, temperature = order[:1], 1.0
    order = order[: top_k or len(order)]
    weights = [math.exp((logits[id] - logits[order[0]]) / temperature) for id in order]
    kept, reached = {}, 0.0
    for id, weight in zip(order, weights, strict=True):
        if kept and (reached >= top_p * sum(weights) or weight < min_p * weights[0]):
            break
        kept[id] = weight
        reached += weight
    return [kept.get(id, 0.0) / sum(kept.values()) for id in range(len(logits))]


def by_id(probabilities, ids):
    """Rows sorted by token id instead of by rank."""
    return np.take_along_axis(np.array(probabilities), np.argsort(ids, axis=-1), -1)


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 2, VOCAB - 1, VOCAB, VOCAB + 1])
@pytest.mark.parametrize("top_p", [0.0, 0.31, 0.9, 1.0])
@pytest.mark.parametrize("min_p", [0.0, 0.07, 0.4, 1.0])
def test_filters_agree_with_their_definitions(temperature, top_k, top_p, min_p):
    logits = np.random.default_rng(3).normal(0, 2, (5, VOCAB)).astype("float32")
    settings = (temperature, top_k, top_p, min_p)
    probabilities, ids = probabilities_and_ids(logits, *settings)
    expected = [plain_filter(row, *settings) for row in logits.tolist()]
    np.testing.assert_allclose(by_id(probabilities, ids), expected, rtol=0, atol=1e-6)
    assert (np.diff(probabilities, axis=-1) <= 0).all()


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.0, 1),
        (0.25, 1),
        (np.nextafter(np.float32(0.25), np.float32(1)), 2),
        (0.5, 2),
        (np.nextafter(np.float32(0.5), np.float32(1)), 3),
        (0.75, 3),
        (np.nextafter(np.float32(0.75), np.float32(1)), 4),
        (1.0, 4),
    ],
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p, kept):
    probabilities, _ = probabilities_and_ids(tf.zeros((1, 4)), 1.0, 0, top_p)
    np.testing.assert_array_equal(
        probabilities[0], [np.float32(1) / kept] * kept + [0] * (4 - kept)
    )


def test_top_p_counts_what_top_k_has_left():
    logits = tf.math.log([[0.4, 0.3, 0.2, 0.1]])
    for top_p, kept in ((0.57, 1), (0.58, 2)):  # 0.4 / 0.7 = 0.571
        probabilities, _ = probabilities_and_ids(logits, 1.0, 2, top_p)
        assert np.count_nonzero(probabilities) == kept


def test_extreme_logits_leave_a_distribution():
    logits = tf.constant([[1e30, -1e30, 0.0], [-1e30, -1e30, -1e30], [88.0, 87.0, -200.0]])
    for temperature in (0.0, 1e-3, 1.0, 10.0):
        probabilities, _ = probabilities_and_ids(logits, temperature)
        np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        (1.0, 0, 1.0, 0.0),
        (0.7, 0, 1.0, 0.0),
        (1.0, 5, 1.0, 0.0),
        (1.0, 0, 0.8, 0.0),
        (1.0, 0, 1.0, 0.2),
        (1.3, 9, 0.9, 0.05),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_tokens_are_sampled_as_often_as_the_distribution_says(settings, seed):
    rows = 20_000
    logits = np.random.default_rng(3).normal(0, 1, VOCAB).astype("float32")
    draws = np.random.default_rng(seed).random(rows, "float32")
    tokens = sample(np.tile(logits, (rows, 1)), settings, draws)
    expected = rows * np.array(plain_filter(logits.tolist(), *settings))
    counts = np.bincount(tokens, minlength=VOCAB)
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - 1
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


def test_every_row_is_sampled_from_its_own_logits():
    best = np.random.default_rng(3).permutation(VOCAB)
    logits = 50 * np.eye(VOCAB, dtype="float32")[best]
    draws = np.random.default_rng(3).random(VOCAB, "float32")
    np.testing.assert_array_equal(sample(logits, (), draws), best)


SAMPLINGS = [(1.0, 1.0, 0.0), (0.7, 0.6, 0.0), (2.0, 1.0, 0.3)]


@pytest.mark.parametrize("top_k", [0, 1, 5, 6, 7, 8, VOCAB])
@pytest.mark.parametrize(("temperature", "top_p", "min_p"), SAMPLINGS)
def test_looking_at_few_tokens_changes_none_that_is_chosen(
    monkeypatch, temperature, top_k, top_p, min_p
):
    settings, rows = (temperature, top_k, top_p, min_p), 200
    logits = np.random.default_rng(3).normal(0, 2, (rows, VOCAB)).astype("float32")
    draws = np.random.default_rng(4).random(rows, "float32")
    by_all = sample(logits, settings, draws)
    for few in (1, 6, 7, VOCAB - 1):
        monkeypatch.setattr(sampling, "FEW", few)
        tokens = [sample(logits[r : r + 1], settings, draws[r : r + 1])[0] for r in range(9)]
        np.testing.assert_array_equal(tokens, by_all[:9])
        np.testing.assert_array_equal(sample(logits, settings, draws), by_all)


@pytest.mark.parametrize("draw", [0.0, np.nextafter(np.float32(1), np.float32(0))])
def test_the_least_and_the_greatest_draw_give_a_token_that_may_be(draw):
    logits = np.random.default_rng(3).normal(0, 2, (50, 601)).astype("float32")
    for settings in ((1.0, 0, 1.0, 0.0), (0.7, 40, 0.9, 0.0), (1.0, 0, 1.0, 0.2)):
        tokens = sample(logits, settings, np.full(50, draw, "float32"))
        expected = [plain_filter(row, *settings) for row in logits.tolist()]
        chosen = [row[token] for row, token in zip(expected, tokens.numpy(), strict=True)]
        assert min(chosen) > 0


@pytest.mark.parametrize("penalty", [1.0, 1.3, 10.0])
def test_only_tokens_that_have_occurred_are_penalized(penalty):
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 2, (5, VOCAB)).astype("float32")
    seen = generator.random((5, VOCAB)) < 0.4
    expected = logits.copy()
    for row, id in zip(*np.nonzero(seen), strict=True):
        positive = logits[row, id] > 0
        expected[row, id] = logits[row, id] / penalty if positive else logits[row, id] * penalty
    penalized = repetition_penalty(tf.constant(logits), tf.constant(seen), tf.constant(penalty))
    np.testing.assert_allclose(penalized, expected, rtol=1e-6)
