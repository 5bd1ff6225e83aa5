"""Verdicts follow from their numbers: worked examples, and simulated races of known truth."""

import re

import numpy as np
import pytest

from keras_lm.runs.comparison import (
    BETTER,
    NO_DIFFERENCE,
    TOO_FEW_SEEDS,
    WORSE,
    compare,
    compare_all,
    interval,
    mean_and_sd,
    summarize,
)

# Worked by hand, with the quantiles of Student's t from a printed table: 12.7062, 4.3027, 2.7764.
WORKED = [
    ([0.1, 0.3], 0.2, 12.7062 * 0.1),
    ([0.1, 0.2, 0.3], 0.2, 4.3027 * 0.1 / 3**0.5),
    ([1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 2.7764 * (2.5 / 5) ** 0.5),
]


def by_seed(values) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values, 1)}


@pytest.mark.parametrize(("differences", "mean", "margin"), WORKED)
def test_the_interval_is_that_of_a_printed_table(differences, mean, margin):
    assert interval(differences) == pytest.approx((mean - margin, mean + margin), abs=2e-4)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([], TOO_FEW_SEEDS),
        ([-9.0], TOO_FEW_SEEDS),
        ([-0.2, -0.2], BETTER),
        ([0.2, 0.2], WORSE),
        ([0.0, 0.0], NO_DIFFERENCE),
        ([0.1, 0.3], NO_DIFFERENCE),
        ([0.2, 0.3, 0.2, 0.3], WORSE),
        ([0.0004, 0.0004], NO_DIFFERENCE),  # three decimals would show 0.000
        ([-0.0004, -0.0004], NO_DIFFERENCE),
        ([0.0006, 0.0006], WORSE),
        ([-0.0006, -0.0006], BETTER),
    ],
)
def test_a_verdict_is_of_the_second_entry_and_follows_from_the_interval(differences, verdict):
    base = {seed: 2.0 + seed / 7 for seed in range(1, len(differences) + 1)}
    other = {seed: base[seed] + d for seed, d in zip(base, differences, strict=True)}
    pair = compare("a", "b", base, other)
    assert (pair.verdict, pair.seeds) == (verdict, len(differences))
    if differences:
        assert pair.difference == pytest.approx(np.mean(differences))
    assert (pair.low is None) == (len(differences) < 2)


def test_only_seeds_that_both_have_count():
    pair = compare("a", "b", {1: 1.0, 2: 1.0, 3: 9.0}, {2: 2.0, 1: 2.0, 4: -9.0})
    assert (pair.seeds, pair.difference, pair.verdict) == (2, 1.0, WORSE)


def test_means_and_spreads_of_few_values():
    assert mean_and_sd([]) == {"mean": None, "sd": None}
    assert mean_and_sd([2.0]) == {"mean": 2.0, "sd": None}
    assert mean_and_sd([2.0, 4.0]) == {"mean": 3.0, "sd": pytest.approx(2**0.5)}


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({"a": [2.0, 2.1], "b": []}, "Nothing to compare"),
        ({"a": [2.0], "b": [1.0]}, "Too few seeds"),
        (
            {"a": [2.0, 2.1, 2.2], "b": [1.0, 1.1, 1.3]},
            "b is best: 0.967 bits per byte less than a",
        ),
        ({"a": [2.0, 2.2], "b": [2.1, 2.0]}, "No winner: b has the lowest mean"),
        ({"a": [2.0, 2.0, 2.0], "b": [2.0001, 2.0, 2.0]}, r"No .* interval 0.000 to 0.000"),
        ({"a": [1.0, 1.1], "b": [2.0, 2.1], "c": [1.2, 1.1]}, "No winner: a .* is shown to c "),
        ({"a": [1.0, 1.1], "b": [2.0, 2.1], "c": []}, "a is best: 1.000 bits per byte less than b"),
        (
            {"a": [1.0, 1.1], "b": [2.0, 2.1], "c": [1.2], "d": []},
            "a is best: 1.000 .*2 seeds.. Left out, with too few seeds: c, d.$",
        ),
        ({"a": [1.0, 1.1], "b": [1.2, 1.0], "c": [1.2]}, "No winner: .*too few seeds: c.$"),
        (  # of the entries that are alike, whose interval it is; b is nearer, but surely worse
            {"a": [1.0, 1.0, 1.0], "b": [1.1, 1.1, 1.1], "c": [1.0, 1.0, 4.0]},
            r"No winner: a .* is shown to c \(95% interval -3.303 to 5.303, 3 seeds\)",
        ),
        ({"a": [1.0, 1.2], "b": [1.2, 1.1, 0.1]}, "No winner: a has the lowest mean"),
        (
            {"a": [1.0, 1.1], "b": [1.2, 1.1], "c": [1.3, 1.1]},
            r"No .* to b and c \(to b: 95% interval -1.171 to 1.371, 2 seeds\)",
        ),
    ],
)
def test_the_sentence_says_what_is_supported_and_no_more(scores, sentence):
    scores = {name: by_seed(values) for name, values in scores.items()}
    assert re.match(sentence, summarize(scores, compare_all(scores)))


@pytest.mark.parametrize(("entries", "seeds"), [(2, 3), (2, 6), (3, 3), (6, 5)])
def test_where_nothing_differs_few_races_name_a_winner(entries, seeds):
    random, wins, races = np.random.default_rng(entries * seeds), 0, 2_000
    for _ in range(races):
        of_seed = random.normal(2.0, 0.3, seeds)  # what a seed does to all entries
        scores = {str(e): by_seed(of_seed + random.normal(0, 0.1, seeds)) for e in range(entries)}
        wins += "is best" in summarize(scores, compare_all(scores))
    assert wins <= 0.06 * races


@pytest.mark.parametrize("seeds", [6, 7])
def test_a_difference_of_twice_the_spread_is_found(seeds):
    random, found, races = np.random.default_rng(seeds), 0, 1_000
    for _ in range(races):
        differences = random.normal(-0.2, 0.1, seeds)
        base = random.normal(2.0, 0.5, seeds)
        scores = {"a": by_seed(base), "b": by_seed(base + differences)}
        found += summarize(scores, compare_all(scores)).startswith("b is best")
    assert found >= 0.95 * races
