"""Charts: what is shown of the events, and that the drawing is sound."""

import numpy as np
import pandas as pd
import pytest

from keras_lm.presentation import charts
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


def test_smoothing_does_not_lag_behind_a_falling_curve():
    falling = pd.Series(range(100, 0, -1), dtype=float)
    np.testing.assert_allclose(charts.smooth(falling), falling, rtol=1e-12)
    noisy = falling + np.resize([1.0, -1.0], len(falling))
    assert abs(charts.smooth(noisy) - falling)[10:-10].max() < 0.2


@pytest.mark.parametrize("count", [1, 2, 50])
@pytest.mark.parametrize("validate_at", [(), (1,)])
def test_tables_hold_every_curve_that_there_is(count, validate_at):
    frame = charts.metrics_frame(events(count, validate_at))
    loss = charts.loss_table(frame, {"ln(vocabulary)": 4.2})
    curves = ["train", "train, smoothed"] + ["validation"] * len(validate_at) + ["ln(vocabulary)"]
    assert list(loss["curve"].unique()) == curves
    assert (loss["curve"] == "train").sum() == count
    both = {"perplexity": "train", "val_perplexity": "validation"}
    assert len(charts.curve_table(frame, both)) == count + len(validate_at)


def test_drawings_name_the_columns_of_the_tables_and_are_made_once():
    drawing = charts.loss_spec()
    assert drawing is charts.loss_spec()
    *curves, rule, above, below, longer, name = drawing["layer"]
    assert longer["encoding"]["x"] == name["encoding"]["x"] and "y" not in longer["encoding"]
    for layer in curves:
        fields = {layer["encoding"][channel]["field"] for channel in ("x", "y", "color")}
        assert fields == {"step", "value", "curve"}
    assert rule["encoding"]["y"]["field"] == "value"
    assert above["encoding"]["text"] == below["encoding"]["text"]
    assert above["mark"]["dy"] < 0 < below["mark"]["dy"]  # close lines' names stay apart
    line = charts.curve_spec("perplexity", ("train", "validation"), log=True)
    assert line["encoding"]["y"]["scale"]["type"] == "log"


def test_the_costs_of_attentions_are_drawn():
    costs = pd.read_csv(mechanisms.COSTS_FILE)
    assert {"standard", "flash", "linear"} <= set(costs["attention"]) <= set(ATTENTIONS)
    for column, title in mechanisms.COSTS.items():
        assert (costs[column] > 0).all()
        for context_length in (16, 256, 16_384):
            mechanisms.cost_chart(costs, column, title, context_length).to_dict()


def test_a_curve_is_described_by_its_ends_and_its_least_value():
    frame = charts.metrics_frame(events(100, validate_at=(20, 60, 100)))
    frame.loc[frame["step"] == 60, "val_loss"] = 3.25
    told = charts.describe(charts.loss_table(frame, {charts.AT_RANDOM: 4.5}))
    assert "train: from 4.99 at step 1 to 4 at step 100, least 4 at step 100." in told
    assert "validation: from 4 at step 20 to 4 at step 100, least 3.25 at step 60." in told
    assert f"{charts.AT_RANDOM}: 4.5." in told
    assert charts.describe(charts.loss_table(frame[:0], {})) == "No point of the curve yet."
