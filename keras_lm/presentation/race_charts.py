"""The chart and the table of a race: a mean and a band over seeds for each entry."""

from functools import cache

import altair as alt
import pandas as pd

from keras_lm.presentation.charts import READABLE, TABLE
from keras_lm.presentation.formatting import CHART_HEIGHT
from keras_lm.runs.race import RaceRun
from keras_lm.storage.run_folder import RunFolder

# Okabe and Ito's colours, which colour-blind people tell apart; dashes besides.
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"]
DASHES = [[1, 0], [6, 3], [2, 2], [10, 3, 2, 3], [4, 1], [1, 3]]
MEASURES = {"Validation": "val_bits_per_byte", "Training": "bits_per_byte"}
AXES = {"Steps": "step", "Tokens": "tokens", "Seconds": "seconds"}
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
    rows = [
        {"entry": run.entry, "seed": run.seed, "value": event[measure]}
        | {name: event[name] for name in AXES.values()}
        for run, folder in runs
        for event in folder.read_events()[0]
        if event["kind"] == "metrics" and event.get(measure) is not None
    ]
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    table = (
        pd.DataFrame(rows)
        .groupby(["entry", "step"], sort=True)
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
    return _thinned(table)[COLUMNS]


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    """At most MOST_STEPS rows per entry, its last one among them."""
    backwards = table.groupby("entry").cumcount(ascending=False)
    every = table.groupby("entry")["step"].transform("size") // MOST_STEPS + 1
    return table[backwards % every == 0]


@cache
def race_spec(names: tuple[str, ...], axis: str, measure: str) -> dict:
    """The Vega-Lite drawing of `race_table`, without its data.

    Args:
        names: of all entries, in their order.
        axis: a key of AXES.
        measure: a key of MEASURES.
    """
    column = AXES[axis]
    legend = alt.Legend(title=None, orient="top", symbolOpacity=1, symbolStrokeWidth=3)
    colour = alt.Color(
        "entry:N",
        scale=alt.Scale(domain=[*names], range=COLOURS[: len(names)]),
        legend=legend,
    )
    base = alt.Chart().encode(
        x=alt.X(f"{column}:Q", title=axis.lower(), axis=alt.Axis(format="~s", tickMinStep=1)),
        color=colour,
    )
    title = f"{measure.lower()}, bits per byte"
    line = base.mark_line(strokeWidth=2.5, point=alt.OverlayMarkDef(size=25)).encode(
        y=alt.Y("mean:Q", title=title, scale=alt.Scale(zero=False)),
        strokeDash=alt.StrokeDash(
            "entry:N", scale=alt.Scale(domain=[*names], range=DASHES[: len(names)]), legend=legend
        ),
        tooltip=[
            "entry:N",
            "step:Q",
            alt.Tooltip("mean:Q", format=".4f"),
            alt.Tooltip("low:Q", format=".4f"),
            alt.Tooltip("high:Q", format=".4f"),
            "seeds:Q",
        ],
    )
    band = base.mark_area(opacity=0.2, line=False).encode(y=alt.Y("low:Q"), y2="high:Q")
    chart = alt.layer(band, line).properties(height=CHART_HEIGHT).configure(**READABLE)
    drawing = chart.to_dict()
    for part in drawing["layer"]:
        part.pop("data", None)
    return drawing | {"data": {"name": TABLE}}


def describe_race(table: pd.DataFrame) -> str:
    """The chart in words, for people who do not see it."""
    if table.empty:
        return "No point of a curve yet."
    last = table.sort_values("step").groupby("entry", sort=False).last()
    parts = (f"{name}: {row['mean']:.3f} at step {row['step']:,}" for name, row in last.iterrows())
    return f"Bits per byte, the mean over seeds. {'; '.join(parts)}."
