"""How curves are drawn, of one run or of several: the only place that makes such a drawing.

A drawing holds no data and nothing that depends on it: with an unchanged drawing the browser
replaces the points alone, so that nothing flickers and a person's zoom stays.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from keras_lm.presentation.formatting import CHART_HEIGHT, OPTIONS_HEIGHT

TABLE, HOVER = "curves", "hover"  # the tables that a drawing draws
COLUMNS = ["x", "curve", "value", "low", "high", "kind"]  # of TABLE
ZOOM, ZOOMED = "zoom", "zoomed"  # the selection, and the layer whose scales it changes
LINE, ABOVE, BELOW, BEST, MARK = "line", "above", "below", "best", "mark"  # the kinds of rows
AXES = {"Steps": "step", "Tokens": "tokens", "Seconds": "seconds"}
MAX_POINTS = 400  # more are not seen, and cost the browser time
# Parts of the curves' height that stay free below and above them; the name of a line needs some.
MARGINS = (0.04, 0.1)
MOST_SMOOTHING, SMOOTHING = 40, 4  # points on either side
TREND = 0.005  # of the value: a smaller change over the last fifth of a curve is level
WHOLE = (0, 100)  # percent of the horizontal axis
# A plain wheel and a finger scroll the page; pinching a touchpad counts as a wheel with Ctrl.
ZOOM_BY = {
    "type": "interval",
    "zoom": "wheel![event.ctrlKey || event.metaKey]",
    "translate": "[pointerdown[event.pointerType !== 'touch'], window:pointerup] > "
    "window:pointermove!",
}
GREY = "#738489"  # seen on white and on black
# Axes and legends in the theme's colour of text; Streamlit's greys are too faint for small letters.
READABLE: dict[str, Any] = {
    "axis": {"labelColor": "currentColor", "titleColor": "currentColor"},
    "legend": {"labelColor": "currentColor", "titleColor": "currentColor", "offset": 6},
}
LETTER, SYMBOL, GAP = 7, 20, 24  # pixels of a letter, a line and its gaps, in the legend
# Of the legend, in pixels. The plot's own width changes when the legend has been laid out; within
# a file there is no container.
LEGEND_WIDTH = "((containerSize()[0] || width + 60) - 60)"


class Look(NamedTuple):
    """How a curve is drawn: colour, width and dashes in pixels, area of its points or 0."""

    colour: str
    width: float = 2.0
    dash: tuple[int, int] = (1, 0)
    point: int = 0


class ChartOptions(NamedTuple):
    """What a person chooses of a chart.

    Attributes:
        axis: a key of AXES, what the horizontal axis counts.
        smoothing: how many points on either side are averaged; 0 for none.
        log: whether the vertical axis is logarithmic.
        part: of the horizontal axis that is shown, its ends in percent.
    """

    axis: str = "Steps"
    smoothing: int = SMOOTHING
    log: bool = False
    part: tuple[int, int] = WHOLE


USUAL = ChartOptions()


def rows(
    curve: str,
    x: Sequence[float] | pd.Series,
    value: Sequence[float] | pd.Series,
    low: pd.Series | None = None,
    high: pd.Series | None = None,
) -> pd.DataFrame:
    """The points of one curve as rows of TABLE; those without a value are left out.

    Args:
        curve: its name in the legend.
        x, value: where its points are.
        low, high: of a band around it, if it has one.

    Example:
        >>> rows("train", [10, 20], [2.5, None])[["curve", "x", "value"]].to_dict("records")
        [{'curve': 'train', 'x': 10, 'value': 2.5}]
    """
    low, high = (value if end is None else end for end in (low, high))
    table = pd.DataFrame({"x": x, "value": value, "low": low, "high": high})
    return table.dropna(subset=["x", "value"]).assign(curve=curve, kind=LINE)[COLUMNS]


def reference(label: str, value: float, kind: str, x: float) -> dict[str, Any]:
    """A row of TABLE beside the curves: a dashed line or, of the kind MARK, an upright one.

    Args:
        label: its name.
        value: its height, within the chart for a mark.
        kind: where the name of a line stands: ABOVE, BELOW or BEST, on the left; or MARK.
        x: within the chart.
    """
    return dict(zip(COLUMNS, (x, label, value, value, value, kind), strict=True))


def join(curves: Sequence[pd.DataFrame], references: Sequence[Mapping], log: bool) -> pd.DataFrame:
    """TABLE of all curves and references; a logarithmic axis has room for what is above 0 only."""
    parts = [part for part in (*curves, pd.DataFrame(references, columns=COLUMNS)) if len(part)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    return table[table["low"] > 0] if log and len(table) else table


def part_of(table: pd.DataFrame, part: tuple[int, int]) -> pd.DataFrame:
    """The rows of TABLE in a part of the horizontal axis, with the lines beside that fit to them.

    Args:
        table: TABLE.
        part: its ends in percent, as in ChartOptions.
    """
    lines = table[table["kind"] == LINE]
    if part == WHOLE or lines.empty:
        return table
    first, last = lines["x"].min(), lines["x"].max()
    ends = [first + percent / 100 * (last - first) for percent in part]
    inside = lines[lines["x"].between(*ends)]
    beside = table[table["kind"] != LINE]
    marks = beside[(beside["kind"] == MARK) & beside["x"].between(*ends)]
    fits = beside["value"].between(inside["low"].min(), inside["high"].max())
    heights = dict.fromkeys(("value", "low", "high"), inside["value"].mean())
    parts = inside, beside[(beside["kind"] != MARK) & fits], marks.assign(**heights)
    return pd.concat(parts, ignore_index=True)


def smooth(values: pd.Series, points: int = SMOOTHING) -> np.ndarray:
    """The mean over as many neighbours on either side: a falling curve is not shown late.

    Args:
        values: of the curve, in order.
        points: on either side, fewer at the ends.

    Example:
        >>> smooth(pd.Series([4.0, 1.0, 1.0]), points=1).tolist()
        [4.0, 2.0, 1.0]
    """
    count = len(values)
    index = np.arange(count)
    reach = np.minimum(points, np.minimum(index, count - 1 - index))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


def hover_table(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """What is said at each x: the value of every curve there, or its latest one before.

    Args:
        table: TABLE.
        names: of the curves, in their order.

    Returns:
        A row per x, at most about MAX_POINTS: columns x, and c0, c1, ... of texts.
    """
    lines = table[table["kind"] == LINE]
    grid = np.unique(lines["x"].to_numpy(dtype=float))
    kept = grid[:: math.ceil(len(grid) / MAX_POINTS) or 1]
    found: dict[str, Any] = {"x": kept}
    for number, name in enumerate(names):
        curve = lines[lines["curve"] == name].sort_values("x")
        x, values = (curve[column].to_numpy(dtype=float) for column in ("x", "value"))
        before = np.searchsorted(x, kept, side="right") - 1
        found[f"c{number}"] = [
            "–" if at < 0 else _said(values[at], x[at], here)
            for at, here in zip(before, kept, strict=True)
        ]
    return pd.DataFrame(found)


def _said(value: float, x: float, here: float) -> str:
    return f"{value:.5g}" if x == here else f"{value:.5g} (at {x:,.0f})"


def describe(table: pd.DataFrame, axis: str = "Steps") -> str:
    """What the curves do, for people who do not see them.

    Args:
        table: TABLE.
        axis: a key of AXES.

    Returns:
        A sentence for each curve: its first, last and lowest value, and whether it falls.

    Example:
        >>> describe(rows("train", [10, 20], [2.5, 2.0])).split(",")[0]
        'train: from 2.5 at step 10 to 2 at step 20'
    """
    unit = AXES[axis] if axis == "Steps" else axis.lower()

    def there(x: float) -> str:
        return f"{unit} {x:,.0f}" if axis == "Steps" else f"{x:,.0f} {unit}"

    sentences = []
    for name, points in table[table["kind"] == LINE].groupby("curve", sort=False):
        first, last = points.iloc[0], points.iloc[-1]
        if len(points) == 1:
            sentences.append(f"{name}: {last['value']:.4g} at {there(last['x'])}.")
            continue
        least = points.loc[points["value"].idxmin()]
        sentences.append(
            f"{name}: from {first['value']:.4g} at {there(first['x'])} to {last['value']:.4g} "
            f"at {there(last['x'])}, lowest {least['value']:.4g} at {there(least['x'])}, "
            f"{_trend(points['value'].to_numpy(dtype=float))} at the end."
        )
    for row in table[table["kind"] == MARK].to_dict("records"):
        sentences.append(f"{row['curve'].capitalize()} from {there(row['x'])}.")
    for row in table[table["kind"].isin([ABOVE, BELOW])].to_dict("records"):
        sentences.append(f"{row['curve']}: {row['value']:.4g}.")
    return " ".join(sentences) or "No point of the curve yet."


def _trend(values: np.ndarray) -> str:
    """Whether the mean of a curve's last tenth is below that of the tenth before."""
    count = max(1, len(values) // 10)
    before, now = values[-2 * count : -count].mean(), values[-count:].mean()
    change = (now - before) / max(abs(before), 1e-12)
    return "level" if abs(change) < TREND else "falling" if change < 0 else "rising"


@cache
def curves_spec(
    looks: tuple[tuple[str, Look], ...], title: str, axis: str = "Steps", log: bool = False
) -> dict[str, Any]:
    """The Vega-Lite drawing of TABLE and HOVER.

    Args:
        looks: name and look of each curve, in the order of the legend.
        title: of the vertical axis.
        axis: a key of AXES.
        log: whether the vertical axis is logarithmic.
    """
    x_axis = {"format": "~s" if axis == "Tokens" else ",d", "tickMinStep": 1, "titlePadding": 4}
    x_title = AXES[axis]
    x: dict[str, Any] = {"field": "x", "type": "quantitative", "title": x_title, "axis": x_axis}
    x["scale"] = _scale(("x", "x"), False, (0.0, 0.0))
    y: dict[str, Any] = {"field": "value", "type": "quantitative", "title": title}
    y["scale"] = _scale(("low", "high"), log, MARGINS)
    said = [
        {"field": f"c{number}", "type": "nominal", "title": _in_tooltip(name)}
        for number, (name, _) in enumerate(looks)
    ]
    return {
        "height": CHART_HEIGHT - OPTIONS_HEIGHT,
        "padding": {"bottom": 4},
        "config": READABLE,
        "data": {"name": TABLE},
        "params": [{"name": ZOOM, "select": ZOOM_BY, "bind": "scales", "views": [ZOOMED]}],
        "encoding": {"x": x},
        "layer": [*_lines(looks, y), *_references(), _hover(x_title, said)],
    }


def _in_tooltip(name: str) -> str:
    """A title such that Vega-Lite's tooltip shows `name`: of special signs it masks `"` alone."""
    return json.dumps(name)[1:-1].replace('\\"', '"')


def _scale(columns: tuple[str, str], log: bool, margins: tuple[float, float]) -> dict[str, Any]:
    """A scale over the table's values, and one from 1 to 10 while there are none.

    A domain that Vega derives from the data itself has no ends until the first point has come,
    which it complains about at every drawing.
    """
    low, high = (
        f"extent(pluck(data('{TABLE}'), '{column}'))[{end}]" for end, column in enumerate(columns)
    )
    below, above = margins
    ends = f"{low} - {below} * ({high} - {low})", f"{high} + {above} * ({high} - {low})"
    if log:
        ends = f"{low} * {1 - below}", f"{high} * {1 + above}"
    domain = [
        {"expr": f"length(data('{TABLE}')) ? {end} : {none}"}
        for end, none in zip(ends, (1, 10), strict=True)
    ]
    return {"domain": domain, "nice": False} | ({"type": "log"} if log else {"zero": False})


def _lines(looks: tuple[tuple[str, Look], ...], y: dict) -> list[dict[str, Any]]:
    """Bands, then lines with points; the first line's scales are those that a zoom changes."""
    names = [name for name, _ in looks]
    legend = {"title": None, "orient": "top", "symbolOpacity": 1, "symbolStrokeWidth": 3}
    legend |= {"symbolType": "stroke", "symbolSize": SYMBOL**2, "rowPadding": 0}
    room = LETTER * max(map(len, names)) + SYMBOL + GAP
    legend["columns"] = {"expr": f"max(1, floor({LEGEND_WIDTH} / {room}))"}
    legend["labelLimit"] = {"expr": f"{LEGEND_WIDTH} - {SYMBOL + GAP}"}

    def by_curve(values: list) -> dict[str, Any]:
        return {
            "field": "curve",
            "type": "nominal",
            "scale": {"domain": names, "range": values},
            "legend": legend if len(names) > 1 else None,
        }

    colour = by_curve([look.colour for _, look in looks])
    encoding = {"y": y, "color": colour}
    if len({look.dash for _, look in looks}) > 1:
        encoding["strokeDash"] = by_curve([look.dash for _, look in looks])
    lines: list[dict[str, Any]] = []
    for width, point in dict.fromkeys((look.width, look.point) for _, look in looks):
        alike = [name for name, look in looks if (look.width, look.point) == (width, point)]
        mark = {"type": "line", "strokeWidth": width, "clip": True}
        if point:
            mark["point"] = {"size": point, "clip": True}
        are_these: list[dict[str, Any]] = [{"filter": f"datum.kind == '{LINE}'"}]
        if len(alike) < len(looks):
            are_these.append({"filter": _one_of("curve", alike)})
        lines.append({"transform": are_these, "mark": mark, "encoding": encoding})
    lines[0]["name"] = ZOOMED
    band = {"y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour}
    return [
        {
            "transform": [{"filter": "datum.low < datum.high"}],
            "mark": {"type": "area", "opacity": 0.2, "clip": True},
            "encoding": band,
        },
        *lines,
    ]


def _one_of(field: str, values: Sequence[str]) -> dict[str, Any]:
    return {"field": field, "oneOf": [*values]}


def _references() -> list[dict[str, Any]]:
    """Dashed lines and dotted marks with their names, which `describe` has for readers."""
    height = {"y": {"field": "value", "type": "quantitative"}}
    name = {"field": "curve", "type": "nominal"}
    text = {"type": "text", "color": "currentColor", "fontSize": 12, "clip": True, "aria": False}
    sides = {ABOVE: ("right", -7, "width"), BELOW: ("right", 9, "width"), BEST: ("left", -7, 4)}
    return [
        {
            "transform": [{"filter": _one_of("kind", [*sides])}],
            "mark": {
                "type": "rule",
                "strokeDash": [5, 4],
                "color": GREY,
                "clip": True,
                "aria": False,
            },
            "encoding": height | {"x": {"value": 0}, "x2": {"value": "width"}},
        },
        *(
            {
                "transform": [{"filter": f"datum.kind == '{kind}'"}],
                "mark": text | {"align": align, "dy": shift},
                "encoding": height | {"x": {"value": at}, "text": name},
            }
            for kind, (align, shift, at) in sides.items()
        ),
        {
            "transform": [{"filter": f"datum.kind == '{MARK}'"}],
            "mark": {
                "type": "rule",
                "strokeDash": [2, 3],
                "color": GREY,
                "clip": True,
                "aria": False,
            },
        },
        {
            "transform": [{"filter": f"datum.kind == '{MARK}'"}],
            "mark": text | {"align": "left", "dx": 4},
            "encoding": {"y": {"value": 40}, "text": name},
        },
    ]


def _hover(x_title: str, said: list[dict[str, Any]]) -> dict[str, Any]:
    """An upright rule at the nearest x, with the values of all curves there."""
    nearest = {
        "type": "point",
        "on": "pointermove",
        "clear": "pointerout",
        "nearest": True,
        "encodings": ["x"],
    }
    here = {"field": "x", "type": "quantitative", "format": ",.0f", "title": x_title}
    return {
        "data": {"name": HOVER},
        "params": [{"name": "hover", "select": nearest}],
        "mark": {"type": "rule", "color": GREY, "clip": True, "aria": False},
        "encoding": {
            "opacity": {"condition": {"param": "hover", "empty": False, "value": 1}, "value": 0},
            "tooltip": [here, *said],
        },
    }
