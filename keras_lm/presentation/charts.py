"""The charts of a run, drawn with Altair from its events; empty ones before its first."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from keras_lm.presentation.formatting import CHART_HEIGHT

MAX_POINTS = 400  # more are not seen, and cost the browser time
SMOOTHING_POINTS = 4  # on either side
MARGIN = 0.04  # of the height, above and below the curves
TABLE = "curves"
GREY = "#738489"  # seen on white and on black
AT_RANDOM = "random guessing, ln(vocabulary)"
BY_FREQUENCY = "guessing by frequency, unigram entropy"  # never above AT_RANDOM
LONGER = "trained longer"  # marks where
LOSS_COLOURS = {"train": "#8fb9be", "train, smoothed": "#0f8a94", "validation": "#e07a2f"}


def metrics_frame(events: list[dict]) -> pd.DataFrame:
    """The metrics events, one per row: MAX_POINTS, as many that have a validation, and the last."""
    metrics = [event for event in events if event["kind"] == "metrics"]
    validated = [event for event in metrics if "val_loss" in event]
    kept = {id(event) for event in (*_thin(metrics), *_thin(validated), *metrics[-1:])}
    return pd.DataFrame([event for event in metrics if id(event) in kept])


def longer_marks(events: list[dict]) -> list[int]:
    """The steps from which a run was trained longer."""
    begins = (event.get("begin", 0) for event in events if event["kind"] == "plan")
    return sorted({begin for begin in begins if begin})


def _thin(events: list[dict]) -> list[dict]:
    return events[:: math.ceil(len(events) / MAX_POINTS) or 1]


def describe(table: pd.DataFrame) -> str:
    """What the curves of a table do, for people who do not see them.

    Args:
        table: from `loss_table` or `curve_table`.

    Returns:
        A sentence for each curve: its first, least and last value, and at which steps they are.
    """
    sentences = []
    for name, points in table[table["curve"] != LONGER].groupby("curve", sort=False):
        first, last = points.iloc[0], points.iloc[-1]
        if len(points) == 1:
            sentences.append(f"{name}: {last['value']:.4g}.")
            continue
        least = points.loc[points["value"].idxmin()]
        sentences.append(
            f"{name}: from {first['value']:.4g} at step {first['step']:,} to "
            f"{last['value']:.4g} at step {last['step']:,}, least {least['value']:.4g} at step "
            f"{least['step']:,}."
        )
    for step in table.loc[table["curve"] == LONGER, "step"]:
        sentences.append(f"Trained longer from step {step:,}.")
    return " ".join(sentences) or "No point of the curve yet."


def loss_table(
    frame: pd.DataFrame, references: dict[str, float], marks: Sequence[int] = ()
) -> pd.DataFrame:
    """Training loss raw and smoothed, validation loss, and a row for each line beside them.

    Args:
        frame: from `metrics_frame`.
        references: name of each line and its height in nats.
        marks: steps from which the run was trained longer.

    Returns:
        Columns step, curve and value.
    """
    if frame.empty:
        return pd.DataFrame(columns=["step", "curve", "value"])
    curves = {"train": frame["loss"], "train, smoothed": smooth(frame["loss"])}
    if "val_loss" in frame:
        curves["validation"] = frame["val_loss"]
    end, height = (
        frame["step"].iloc[-1],
        frame["loss"].iloc[-1],
    )  # a mark goes from top to bottom all the same
    lines = {
        "step": [*[end] * len(references), *marks],
        "curve": [*references, *[LONGER] * len(marks)],
        "value": [*references.values(), *[height] * len(marks)],
    }
    return pd.concat([_long(frame["step"], curves), pd.DataFrame(lines)], ignore_index=True)


def curve_table(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """Columns of `frame` under the names of their curves: columns step, curve and value."""
    curves = {name: frame[column] for column, name in columns.items() if column in frame}
    return _long(frame["step"] if curves else pd.Series(dtype=int), curves)


def _long(steps: pd.Series, curves: dict[str, pd.Series]) -> pd.DataFrame:
    table = pd.DataFrame({"step": steps, **curves}).melt("step", var_name="curve")
    return table.dropna()


def smooth(values: pd.Series) -> np.ndarray:
    """The mean over as many neighbours on either side: a falling curve is not shown late."""
    count = len(values)
    index = np.arange(count)
    reach = np.minimum(SMOOTHING_POINTS, np.minimum(index, count - 1 - index))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


@cache
def loss_spec() -> dict:
    """The Vega-Lite drawing of `loss_table`, with dashed reference lines.

    Drawings are made once and hold no data: making one takes Altair longer than all the rest of a
    refresh, and with an unchanged drawing the browser replaces the points alone.
    """
    base = _base("loss (nats per token)", False, tuple(LOSS_COLOURS))
    raw, smoothed, validation = (
        base.transform_filter(alt.datum.curve == name) for name in LOSS_COLOURS
    )
    layers = [
        raw.mark_line(strokeWidth=1),
        smoothed.mark_line(strokeWidth=2.5),
        validation.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=50)),
        *_reference_lines(),
        *_longer_marks(),
    ]
    return _without_data(alt.layer(*layers))


@cache
def curve_spec(title: str, names: tuple[str, ...], log: bool = False) -> dict:
    """The Vega-Lite drawing of `curve_table`: one line per curve.

    Args:
        title: of the vertical axis.
        names: of the curves; one alone needs no legend.
        log: whether the vertical axis is logarithmic.
    """
    line = _base(title, log, names).mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=12))
    return _without_data(line)


def _without_data(chart: alt.Chart | alt.LayerChart | alt.FacetChart) -> dict:
    """The drawing alone; each of its parts draws the table named TABLE."""
    drawing = chart.properties(height=CHART_HEIGHT).configure(**READABLE).to_dict()
    for part in drawing.get("layer", []):
        del part["data"]
    return drawing | {"data": {"name": TABLE}}


# Axes and legends in the theme's colour of text; Streamlit's greys are too faint for small letters.
READABLE = {
    "axis": alt.AxisConfig(labelColor="currentColor", titleColor="currentColor"),
    "legend": alt.LegendConfig(labelColor="currentColor", titleColor="currentColor"),
}
_LEGEND = alt.Legend(title=None, orient="top", symbolOpacity=1, symbolStrokeWidth=3)


def _scale(column: str, log: bool = False, margin: float = 0.0) -> alt.Scale:
    """A scale over the table's values of `column`, and one from 1 to 10 while there are none.

    A domain that Vega derives from the data itself has no ends until the first point has come,
    which it complains about at every drawing.
    """
    low, high = (f"extent(pluck(data('{TABLE}'), '{column}'))[{end}]" for end in (0, 1))
    if log:
        ends = f"[{low} * {1 - margin}, {high} * {1 + margin}]"
    else:
        ends = f"[{low} - {margin} * ({high} - {low}), {high} + {margin} * ({high} - {low})]"
    raw = alt.ExprRef(f"length(data('{TABLE}')) ? {ends} : null")
    kind: dict[str, Any] = {"type": "log"} if log else {"zero": False}
    return alt.Scale(domain=[1, 10], domainRaw=raw, **kind)


def _base(title: str, log: bool, names: tuple[str, ...]) -> alt.Chart:
    colours = [LOSS_COLOURS.get(name, "#0f8a94") for name in names]
    if len(names) == 2:  # train and validation
        colours[0] = "#0f8a94"
    return alt.Chart().encode(
        x=alt.X(
            "step:Q", title="step", scale=_scale("step"), axis=alt.Axis(format=",d", tickMinStep=1)
        ),
        y=alt.Y("value:Q", title=title, scale=_scale("value", log, MARGIN)),
        color=alt.Color(
            "curve:N",
            scale=alt.Scale(domain=list(names), range=colours),
            legend=_LEGEND if len(names) > 1 else None,
        ),
        tooltip=["curve:N", "step:Q", alt.Tooltip("value:Q", format=".5g")],
    )


def _longer_marks() -> list[alt.Chart]:
    """A dotted upright line, with its name, where a run was trained longer."""
    marks = alt.Chart().transform_filter(alt.datum.curve == LONGER).encode(x="step:Q")
    name = marks.mark_text(align="left", dx=4, color="currentColor", fontSize=12, aria=False)
    return [
        marks.mark_rule(strokeDash=[2, 3], color=GREY, aria=False),
        name.encode(y=alt.value(24), text="curve:N"),
    ]


def _reference_lines() -> list[alt.Chart]:
    """Dashed horizontal lines with their names: BY_FREQUENCY's below it, AT_RANDOM's above."""
    is_curve = alt.FieldOneOfPredicate("curve", [*LOSS_COLOURS, LONGER])
    is_reference: Any = {"not": is_curve}  # Any: Altair's annotations know no negation
    base = alt.Chart().transform_filter(is_reference).encode(y="value:Q")
    return [
        base.mark_rule(strokeDash=[5, 4], color=GREY),
        *(
            base.transform_filter(is_this)
            .mark_text(align="right", dy=shift, color="currentColor", fontSize=12)
            .encode(x=alt.value("width"), text="curve:N")
            for is_this, shift in (
                (alt.datum.curve != BY_FREQUENCY, -7),
                (alt.datum.curve == BY_FREQUENCY, 9),
            )
        ),
    ]
