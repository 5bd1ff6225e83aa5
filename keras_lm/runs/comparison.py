"""What the runs of a race support: means, paired differences, and a verdict on each pair.

Runs of the same seed read the same windows in the same order, so entries are compared seed by
seed: the interval is Student's for the mean of the paired differences.
"""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
DECIMALS = 3  # of bits per byte; what they do not show is no difference
BETTER, WORSE = "better", "worse"
NO_DIFFERENCE, TOO_FEW_SEEDS = "no difference shown", "too few seeds"


@dataclass(frozen=True)
class Pair:
    """Two entries compared.

    Attributes:
        a, b: the entries' names.
        seeds: how many seeds both have.
        difference: b minus a in bits per byte, the mean over these seeds; None without any.
        low, high: ends of its 95% interval; None below two seeds.
        verdict: of b: BETTER, WORSE, NO_DIFFERENCE or TOO_FEW_SEEDS.
    """

    a: str
    b: str
    seeds: int
    difference: float | None
    low: float | None
    high: float | None
    verdict: str


def mean_and_sd(values: Sequence[float]) -> dict[str, float | None]:
    """The mean and the sample's standard deviation; None where there are too few values.

    Example:
        >>> mean_and_sd([1.0, 2.0, 3.0])
        {'mean': 2.0, 'sd': 1.0}
    """
    return {
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
    }


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the mean by Student's t, of two values or more.

    Example:
        >>> low, high = interval([0.1, 0.2, 0.3])
        >>> round(low, 4), round(high, 4)
        (-0.0484, 0.4484)
    """
    from scipy.special import stdtrit  # no other command than a race needs it

    count = len(differences)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    margin = quantile * statistics.stdev(differences) / math.sqrt(count)
    mean = statistics.fmean(differences)
    return mean - margin, mean + margin


def compare(a: str, b: str, of_a: Mapping[int, float], of_b: Mapping[int, float]) -> Pair:
    """Compares two entries.

    Args:
        a, b: their names.
        of_a, of_b: by seed, the bits per byte of the validation text.

    Example:
        >>> compare("a", "b", of_a={1: 2.0, 2: 2.1}, of_b={1: 1.5, 2: 1.6}).verdict
        'better'
    """
    differences = [of_b[seed] - of_a[seed] for seed in sorted(of_a.keys() & of_b.keys())]
    count = len(differences)
    mean = statistics.fmean(differences) if count else None
    if count < 2:
        return Pair(a, b, count, mean, None, None, TOO_FEW_SEEDS)
    low, high = interval(differences)
    verdict = NO_DIFFERENCE
    if round(high, DECIMALS) < 0:
        verdict = BETTER
    elif round(low, DECIMALS) > 0:
        verdict = WORSE
    return Pair(a, b, count, mean, low, high, verdict)


def compare_all(scores: Mapping[str, Mapping[int, float]]) -> list[Pair]:
    """Every pair of entries, in their order; `scores`: bits per byte by entry and seed.

    Example:
        >>> [(pair.a, pair.b) for pair in compare_all({"a": {}, "b": {}, "c": {}})]
        [('a', 'b'), ('a', 'c'), ('b', 'c')]
    """
    return [compare(a, b, scores[a], scores[b]) for a, b in itertools.combinations(scores, 2)]


def summarize(scores: Mapping[str, Mapping[int, float]], pairs: Sequence[Pair]) -> str:
    """One sentence that says what the result supports, and no more.

    An entry wins only when it is better than every other one, so that of races in which nothing
    differs at most one in twenty names a winner.

    Example:
        >>> scores = {"a": {1: 2.0, 2: 2.1}, "b": {1: 2.5, 2: 2.6}}
        >>> summarize(scores, compare_all(scores))
        'a is best: 0.500 bits per byte less than b (95% interval 0.500 to 0.500, 2 seeds).'
    """
    runs = {name: seeds for name, seeds in scores.items() if seeds}
    if len(runs) < 2:
        return "Nothing to compare yet: fewer than two entries have a finished run."
    judged = [pair for pair in pairs if pair.verdict != TOO_FEW_SEEDS]
    runs = {name: runs[name] for name in runs if any(name in (p.a, p.b) for p in judged)}
    few = [name for name in scores if name not in runs]
    among = [pair for pair in pairs if pair.a in runs and pair.b in runs]
    if not runs or any(pair.verdict == TOO_FEW_SEEDS for pair in among):
        return "Too few seeds for a verdict: at least two are needed, and five are better."
    without = f" Left out, with too few seeds: {', '.join(few)}." if few else ""
    common = set.intersection(*map(set, runs.values()))  # another seed may be an easier one
    means = {
        name: statistics.fmean([seeds[seed] for seed in common or seeds])
        for name, seeds in runs.items()
    }
    best = min(means, key=means.__getitem__)
    against = [_seen_from(pair, best) for pair in pairs if best in (pair.a, pair.b)]
    against = [pair for pair in against if pair.b in runs]
    alike = [pair for pair in against if pair.verdict != WORSE]
    nearest = min(alike or against, key=lambda pair: pair.difference or 0.0)
    shown = f"95% interval {show_bits(nearest.low)} to {show_bits(nearest.high)}"
    shown += f", {nearest.seeds} seeds"
    if not alike:
        less = f"{show_bits(nearest.difference)} bits per byte less than {nearest.b}"
        return f"{best} is best: {less} ({shown}).{without}"
    if len(alike) > 1:
        shown = f"to {nearest.b}: {shown}"
    return (
        f"No winner: {best} has the lowest mean, but no difference is shown to "
        f"{' and '.join(pair.b for pair in alike)} ({shown}).{without}"
    )


def pair_in_words(pair: Mapping[str, Any]) -> str:
    """A pair of a race's result: the verdict, with its interval if there is one.

    Example:
        >>> pair = compare("a", "b", {1: 2.0, 2: 2.1}, {1: 2.5, 2: 2.6})
        >>> pair_in_words(vars(pair))
        'b against a: worse; +0.500 bits per byte, 95% interval +0.500 to +0.500; 2 seeds'
    """
    words = f"{pair['b']} against {pair['a']}: {pair['verdict']}"
    if pair["low"] is not None:
        names = ("difference", "low", "high")
        difference, low, high = (show_bits(pair[name], "+") for name in names)
        words += f"; {difference} bits per byte, 95% interval {low} to {high}"
    return f"{words}; {pair['seeds']} seed{'s' * (pair['seeds'] != 1)}"


def _seen_from(pair: Pair, name: str) -> Pair:
    """The pair with `name` as its first entry."""
    if pair.a == name:
        return pair
    return Pair(
        name,
        pair.a,
        pair.seeds,
        _minus(pair.difference),
        low=_minus(pair.high),
        high=_minus(pair.low),
        verdict={BETTER: WORSE, WORSE: BETTER}.get(pair.verdict, pair.verdict),
    )


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def show_bits(value: float | None, sign: str = "") -> str:
    """Bits per byte as a sentence has them, never -0.000.

    Args:
        value: None gives a question mark.
        sign: "+" to write that of a number above zero, too.

    Example:
        >>> show_bits(-6e-8), show_bits(0.0125, "+")
        ('0.000', '+0.013')
    """
    return "?" if value is None else f"{round(value, DECIMALS) + 0.0:{sign}.{DECIMALS}f}"
