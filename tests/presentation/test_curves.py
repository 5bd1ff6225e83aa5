"""Curves: smoothing, what hovering and the alternative text say, and a drawing that stays."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import vl_convert

from keras_lm.presentation import charts, race_charts
from keras_lm.presentation.curves import (
    ABOVE,
    AXES,
    BEST,
    MARK,
    MAX_POINTS,
    MOST_SMOOTHING,
    TABLE,
    WHOLE,
    ZOOM,
    ZOOMED,
    Look,
    curves_spec,
    describe,
    hover_table,
    join,
    part_of,
    reference,
    rows,
    smooth,
)

LOOKS = (("a", Look("#000")), ("b", Look("#111", dash=(4, 2), point=9)))


@pytest.mark.parametrize("points", [0, 1, 4, MOST_SMOOTHING])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_smoothing_is_the_mean_of_as_many_neighbours_on_either_side(points, count):
    values = pd.Series(np.random.default_rng(1).normal(size=count))
    for at, found in enumerate(smooth(values, points)):
        reach = min(points, at, count - 1 - at)
        assert found == pytest.approx(values[at - reach : at + reach + 1].mean(), abs=1e-12)


def test_smoothing_does_not_lag_behind_a_falling_curve():
    falling = pd.Series(range(100, 0, -1), dtype=float)
    np.testing.assert_allclose(smooth(falling), falling, rtol=1e-12)
    noisy = falling + np.resize([1.0, -1.0], len(falling))
    assert abs(smooth(noisy) - falling)[10:-10].max() < 0.2


@pytest.mark.parametrize(
    ("part", "steps", "beside"),
    [
        (WHOLE, range(1, 12), {"far", "near", "mark"}),
        ((0, 100), range(1, 12), {"far", "near", "mark"}),
        ((50, 100), range(6, 12), {"near", "mark"}),
        ((0, 50), range(1, 7), {"near"}),
        ((90, 90), [10], set()),
        ((91, 92), [], set()),
    ],
)
def test_a_part_of_a_chart_has_its_points_and_the_lines_that_fit_beside_them(part, steps, beside):
    lines = [("far", 99.0, ABOVE, 11), ("near", 6.0, BEST, 11), ("mark", 1.0, MARK, 8)]
    curve = rows("a", range(1, 12), range(11, 0, -1))
    table = part_of(join([curve], [reference(*line) for line in lines], False), part)
    shown = table[table["curve"] == "a"]
    assert list(shown["x"]) == [*steps]
    assert {*table["curve"]} - {"a"} == beside
    if part != WHOLE and len(shown):  # the axis ends where the curve does
        assert (table["low"].min(), table["high"].max()) == (
            shown["low"].min(),
            shown["high"].max(),
        )


@pytest.mark.parametrize("width", [250, 430, 1_000])
def test_no_name_of_a_legend_is_cut_off_and_each_line_has_its_dashes(width):
    names = [f"attention={'x' * length}" for length in (5, 8, 18)]
    looks = race_charts.compared_looks(names)
    drawing = curves_spec(looks, "loss") | {"width": width, "height": 200}
    table = pd.concat([rows(name, [1.0, 2.0], [2.0, 1.0]) for name in names])
    drawing["datasets"] = {TABLE: table.to_dict("records"), "hover": []}
    svg = vl_convert.vegalite_to_svg(drawing)
    assert all(f">{name}<" in svg for name in names)
    legend = svg[svg.index("role-legend-symbol") : svg.index("role-legend-label")]
    dashes = re.findall('<path[^>]*stroke-dasharray="([0-9,]+)"', svg[svg.index("role-legend") :])
    assert [*dict.fromkeys(dashes)] == [",".join(map(str, look.dash)) for _, look in looks]
    whole = float(re.search('width="([0-9.]+)"', svg)[1])
    assert legend and whole <= width + 60  # an axis beside the plot, nothing of the legend


def test_hovering_says_every_curve_at_that_point():
    table = join([rows("a", [1, 2, 3], [9.0, 8.0, 7.0]), rows("b", [2], [5.0])], [], False)
    said = hover_table(table, ["a", "b"])
    assert said.to_dict("list") == {
        "x": [1, 2, 3],
        "c0": ["9", "8", "7"],
        "c1": ["–", "5", "5 (at 2)"],
    }
    steps = range(2 * MAX_POINTS)
    assert len(hover_table(rows("a", steps, steps), ["a"])) == MAX_POINTS


def test_a_logarithmic_axis_shows_what_is_above_zero():
    curve = rows("a", [1, 2, 3], [1.0, 0.0, -1.0])
    assert list(join([curve], [], True)["x"]) == [1]
    assert list(join([curve], [], False)["x"]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("last", "trend"), [(3.0, "falling"), (3.99, "level"), (4.01, "level"), (5.0, "rising")]
)
def test_the_alternative_text_says_what_the_curve_does(last, trend):
    values = [6.0, 2.0, *[4.0] * 16, last, last]
    beside = [reference("limit", 4.2, ABOVE, 20), reference("trained longer", 4, MARK, 15)]
    table = join([rows("a", range(1, 21), values)], beside, False)
    assert describe(table) == (
        f"a: from 6 at step 1 to {last:.4g} at step 20, lowest 2 at step 2, {trend} at the end. "
        "Trained longer from step 15. limit: 4.2."
    )
    assert "at 20 tokens" in describe(table, "Tokens")
    assert describe(table[:1]) == "a: 6 at step 1."
    assert describe(table[:0]) == "No point of the curve yet."


def test_a_drawing_is_made_once_holds_no_data_and_has_one_zoom():
    drawing = curves_spec(LOOKS, "loss")
    assert drawing is curves_spec(LOOKS, "loss")
    assert drawing["data"] == {"name": TABLE} and "datasets" not in drawing
    assert [(param["name"], param["views"]) for param in drawing["params"]] == [(ZOOM, [ZOOMED])]
    assert [layer.get("name") for layer in drawing["layer"]].count(ZOOMED) == 1
    scale = curves_spec(LOOKS, "loss", log=True)["layer"][1]["encoding"]["y"]["scale"]
    assert scale["type"] == "log"
    titles = {curves_spec(LOOKS, "loss", axis)["encoding"]["x"]["title"] for axis in AXES}
    assert titles == {*AXES.values()}


def test_lines_of_references_keep_their_names_apart():
    texts = [
        layer["mark"]["dy"]
        for layer in curves_spec(charts.loss_looks(), "loss")["layer"]
        if "dy" in layer["mark"]
    ]
    assert min(texts) < 0 < max(texts)


@pytest.mark.parametrize(
    "name", ['say "a"', "back\\slash", '\\"', "two\nlines", "\u2028é"], ids=range(5)
)
def test_any_name_of_a_curve_is_shown_when_hovering(name):
    tables = {"curves": rows(name, [1.0], [2.0]).to_dict("records"), "hover": [{"x": 1, "c0": "2"}]}
    drawing = curves_spec(((name, Look("#000")),), "loss") | {"datasets": tables}
    assert "<svg" in vl_convert.vegalite_to_svg(drawing)  # its expressions can be read
    assert json.dumps(json.dumps(name) + ": ")[1:-1] in json.dumps(
        vl_convert.vegalite_to_vega(drawing)
    )
