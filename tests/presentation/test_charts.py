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


@pytest.mark.parametrize(
    ("losses", "overfits"),
    [
        ([], False),
        ([4.0], False),
        ([4.0, 4.5], False),  # once is not enough
        ([4.0, 4.5, 4.6], True),
        ([4.0, 4.5, 4.03], False),
        ([4.0, 4.041, 4.041], True),
        ([4.0, 4.039, 4.041], False),
        ([5.0, 4.0, 4.5, 4.4], True),
        ([4.5, 4.4, 4.3], False),
    ],
)
def test_a_validation_loss_that_stays_above_its_least_is_told(losses, overfits):
    metrics = [{"kind": "metrics", "step": 10 * i, "loss": 3.0} for i in range(1, 9)]
    for event, loss in zip(metrics[1::2], losses, strict=False):
        event["val_loss"] = loss
    hint = charts.overfitting_hint(charts.metrics_frame(metrics))
    assert bool(hint) == overfits
    if overfits:
        assert f"({min(losses):.3f}) and is {losses[-1]:.3f} now" in hint


@pytest.mark.parametrize(
    ("losses", "val_loss", "told"),
    [([9.0, 3.1], None, True), ([9.0, 2.9], None, False), ([2.9], 3.0, True), ([3.1], 2.9, False)],
)
def test_a_model_that_guesses_by_frequency_is_told(losses, val_loss, told):
    metrics = [{"kind": "metrics", "step": i, "loss": loss} for i, loss in enumerate(losses)]
    if val_loss is not None:
        metrics[-1]["val_loss"] = val_loss
    frame = charts.metrics_frame(metrics)
    assert bool(charts.clueless_hint(frame, 3.0)) == told
    assert charts.clueless_hint(frame, None) is None


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
    *curves, rule, above, below = drawing["layer"]
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


def test_how_sure_the_model_is_is_said_of_the_newest_validation():
    frame = pd.DataFrame({"perplexity": [9.0, 2.0], "val_perplexity": [float("nan"), 3.44]})
    assert charts.certainty(frame, 78) == (
        "The model is as unsure as when choosing among 3.4 tokens; it began with 78."
    )
    assert "among 9.0 tokens" in charts.certainty(pd.DataFrame({"perplexity": [9.0]}), 78)
    assert charts.certainty(pd.DataFrame(), 78) == ""
