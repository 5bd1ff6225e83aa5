"""The curves of a race, a mean and a band over seeds for each entry, or of several runs."""

from collections.abc import Sequence

import pandas as pd

from keras_lm.presentation.curves import AXES, ChartOptions, Look, join, rows, smooth
from keras_lm.runs.race import RaceRun
from keras_lm.storage.run_folder import FINISHED, RunFolder

# Okabe and Ito's colours, which colour-blind people can distinguish; dashes besides.
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"]
DASHES = [(1, 0), (6, 3), (2, 2), (10, 3), (4, 1), (1, 3)]
VALIDATION, TRAINING = "Validation", "Training"
MEASURES = {VALIDATION: "val_bits_per_byte", TRAINING: "bits_per_byte"}
COLUMNS = ["entry", "step", "tokens", "seconds", "mean", "low", "high", "seeds"]
MOST_STEPS = 200  # drawn per entry


def race_table(runs: list[tuple[RaceRun, RunFolder]], measure: str) -> pd.DataFrame:
    """One row per entry and step: the mean over its seeds, and the band from least to most.

    Args:
        runs: those that have begun, with their folders.
        measure: a value of MEASURES.

    Returns:
        Columns COLUMNS; `seconds` and `tokens` are means over the seeds.
    """
    points = [
        {"entry": run.entry, "seed": run.seed, "state": run.state, "value": event[measure]}
        | {name: event[name] for name in AXES.values()}
        for run, folder in runs
        for event in folder.read_events()[0]
        if event["kind"] == "metrics" and event.get(measure) is not None
    ]
    if not points:
        return pd.DataFrame(columns=COLUMNS)
    table = (
        _with_common_ends(pd.DataFrame(points))
        .astype({"entry": pd.CategoricalDtype([*dict.fromkeys(run.entry for run, _ in runs)])})
        .groupby(["entry", "step"], sort=True, observed=True)
        .agg(
            tokens=("tokens", "mean"),
            seconds=("seconds", "mean"),
            mean=("value", "mean"),
            low=("value", "min"),
            high=("value", "max"),
            seeds=("seed", "nunique"),
        )
        .reset_index()
    )
    return _thinned(table.astype({"entry": str}))[COLUMNS]


def _with_common_ends(points: pd.DataFrame) -> pd.DataFrame:
    """The points, where the last ones of an entry's finished runs are at one step, their mean.

    Runs that end by the clock make different numbers of steps.
    """
    last = points.groupby(["entry", "seed"], sort=False)["step"].transform("max")
    is_end = (points["step"] == last) & (points["state"] == FINISHED)
    ends = points[is_end].groupby("entry")["step"].transform("mean").round()
    return points.assign(step=points["step"].where(~is_end, ends).astype("int64"))


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    """At most MOST_STEPS rows per entry, its last one among them."""
    backwards = table.groupby("entry").cumcount(ascending=False)
    every = table.groupby("entry")["step"].transform("size") // MOST_STEPS + 1
    return table[backwards % every == 0]


def compared_table(table: pd.DataFrame, options: ChartOptions) -> pd.DataFrame:
    """The curves of `race_table` or `overlaid`, for a drawing with `compared_looks`."""
    curves = []
    for name, points in table.groupby("entry", sort=False):
        ends = [points[column] for column in ("mean", "low", "high")]
        if options.smoothing:
            ends = [pd.Series(smooth(end, options.smoothing), end.index) for end in ends]
        curves.append(rows(str(name), points[AXES[options.axis]], *ends))
    return join(curves, [], options.log)


def compared_looks(names: Sequence[str]) -> tuple[tuple[str, Look], ...]:
    """How several curves look beside each other: at most as many as there are COLOURS.

    Example:
        >>> [name for name, _ in compared_looks(["flash", "linear"])]
        ['flash', 'linear']
    """
    looks = (Look(colour, 2.5, dash, 25) for colour, dash in zip(COLOURS, DASHES, strict=True))
    return tuple(zip(names, looks, strict=False))


def title(measure: str, options: ChartOptions) -> str:
    """Of the vertical axis; `measure` is a key of MEASURES, `options` of the table.

    Example:
        >>> title("Validation", ChartOptions("Steps", smoothing=3, log=False, part=(0, 100)))
        'validation, bits per byte, smoothed'
    """
    return f"{measure.lower()}, bits per byte{', smoothed' * bool(options.smoothing)}"
