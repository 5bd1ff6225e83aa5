"""Charts: what is shown of the events, and that the drawing is sound."""

import pandas as pd
import pytest

from keras_lm.presentation import charts
from keras_lm.presentation.curves import AXES, LINE, ChartOptions
from keras_lm.settings.variants import ATTENTIONS
from keras_lm.ui.parts import mechanisms


def events(count: int, validate_at: tuple[int, ...] = ()) -> list[dict]:
    metrics = [
        {"kind": "metrics", "step": step, "loss": 5.0 - step / count, "perplexity": 9.0}
        | ({"val_loss": 4.0, "val_perplexity": 8.0} if step in validate_at else {})
        for step in range(1, count + 1)
    ]
    return [*metrics, {"kind": "sample", "step": 3, "prompt": "a", "text": "b"}]


@pytest.mark.parametrize("count", [charts.MAX_POINTS, charts.MAX_POINTS + 1, 3001])
def test_long_curves_are_thinned_but_keep_their_end_and_validations(count):
    frame = charts.metrics_frame(events(count, validate_at=(7, 8, 9)))
    assert len(frame) <= charts.MAX_POINTS + 4
    assert frame["step"].iloc[-1] == count
    assert {7, 8, 9} <= set(frame["step"])


@pytest.mark.parametrize("count", [1, 2, 50])
@pytest.mark.parametrize("validate_at", [(), (1,)])
def test_tables_hold_every_curve_that_there_is(count, validate_at):
    frame = charts.metrics_frame(events(count, validate_at))
    loss = charts.loss_table(frame, {"ln(vocabulary)": 4.2})
    curves = ["train", "train, smoothed"] + ["validation"] * len(validate_at)
    assert list(loss.loc[loss["kind"] == LINE, "curve"].unique()) == curves
    assert "ln(vocabulary)" in set(loss["curve"])
    assert (loss["curve"] == "train").sum() == count
    both = {"perplexity": "train", "val_perplexity": "validation"}
    assert len(charts.curve_table(frame, both)) == 2 * count + len(validate_at)


def test_of_many_validations_the_last_and_the_best_are_kept():
    *points, _ = events(1200, tuple(range(1, 1201)))
    points[601]["val_loss"], points[-1]["val_loss"] = 1.0, 1.5
    frame = charts.metrics_frame(points)
    assert len(frame) < len(points)
    assert frame["val_loss"].min() == 1.0 and frame["val_loss"].iloc[-1] == 1.5


def test_without_smoothing_the_curve_itself_is_drawn():
    frame = charts.metrics_frame(events(50, (25,)))
    raw = ChartOptions(smoothing=0)
    table = charts.loss_table(frame, {}, options=raw)
    assert [name for name, _ in charts.loss_looks(raw)] == ["train", "validation"]
    assert set(table.loc[table["kind"] == LINE, "curve"]) == {"train", "validation"}
    learned = charts.curve_table(frame, {"perplexity": "train"}, raw)
    assert list(learned["value"]) == list(frame["perplexity"])


@pytest.mark.parametrize("smoothing", [0, 1, 4])
@pytest.mark.parametrize("column", ["loss", "perplexity", "grad_norm", "val_loss", "learning_rate"])
def test_a_smoothed_curve_is_called_so_and_lies_over_the_curve_itself(column, smoothing):
    options, names = ChartOptions(smoothing=smoothing), {column: "x"}
    if column == "val_loss":
        names = {column: charts.VALIDATION}
    frame = pd.DataFrame({"step": range(9), column: [float(n % 2) for n in range(9)]})
    shown = {
        name: list(points["value"])
        for name, points in charts.curve_table(frame, names, options).groupby("curve", sort=False)
    }
    assert [name for name, _ in charts.curve_looks(names, options)] == [*shown]
    raw, *smoothed = shown
    assert shown[raw] == list(frame[column])
    can_be = smoothing and column not in ("val_loss", "learning_rate")
    assert smoothed == [f"{raw}, smoothed"] * bool(can_be)
    assert all(shown[name] != shown[raw] for name in smoothed)


def test_what_was_validated_or_planned_is_never_smoothed():
    frame = charts.metrics_frame(events(50, tuple(range(1, 51))))
    jagged = [float(step % 2) for step in frame["step"]]
    names = {"perplexity": "train", "val_perplexity": "validation", "learning_rate": "rate"}
    table = charts.curve_table(frame.assign(**dict.fromkeys(names, jagged)), names)
    shown = {name: list(points["value"]) for name, points in table.groupby("curve")}
    assert shown["validation"] == shown["rate"] == jagged != shown["train, smoothed"]


def test_the_best_validation_and_where_a_run_was_trained_longer_are_marked():
    frame = charts.metrics_frame(events(50, (25,)))
    table = charts.loss_table(frame, {charts.AT_RANDOM: 4.2}, marks=(30, 60))
    beside = table[table["kind"] != LINE].set_index("curve")
    assert beside.loc["best so far, 4.000", "value"] == 4.0
    assert list(beside.loc[charts.LONGER, "x"]) == [30, 50]  # nothing came after step 50
    assert charts.longer_marks([{"kind": "plan"}, {"kind": "plan", "begin": 30}]) == [30]


@pytest.mark.parametrize("axis", AXES)
def test_curves_are_drawn_along_what_is_chosen(axis):
    frame = charts.metrics_frame(events(50, (25,)))
    frame = frame.assign(tokens=frame["step"] * 7, seconds=frame["step"] * 0.5)
    table = charts.loss_table(frame, {}, options=ChartOptions(axis))
    assert list(table.loc[table["curve"] == "train", "x"]) == list(frame[AXES[axis]])


def test_the_costs_of_attentions_are_drawn():
    costs = pd.read_csv(mechanisms.COSTS_FILE)
    assert {"standard", "flash", "linear"} <= set(costs["attention"]) <= set(ATTENTIONS)
    for column, title in mechanisms.COSTS.items():
        assert (costs[column] > 0).all()
        for context_length in (16, 256, 16_384):
            mechanisms.cost_chart(costs, column, title, context_length).to_dict()
