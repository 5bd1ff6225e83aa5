"""The charts of a run, drawn with Altair from its events."""

import math

import altair as alt
import pandas as pd

MAX_POINTS = 400  # more are not seen, and cost the browser time
SMOOTHING_POINTS = 8  # on either side, when a curve is long
HEIGHT = 320


def metrics_frame(events: list[dict]) -> pd.DataFrame:
    """The metrics events, one a row, thinned to MAX_POINTS; every validation is kept."""
    frame = pd.DataFrame([event for event in events if event["kind"] == "metrics"])
    if len(frame) <= MAX_POINTS:
        return frame
    stride = math.ceil(len(frame) / MAX_POINTS)
    kept = pd.Series(frame.index % stride == 0)
    if "val_loss" in frame:
        kept |= frame["val_loss"].notna()
    kept.iloc[-1] = True
    return frame[kept]


def loss_chart(frame: pd.DataFrame, references: dict[str, float]) -> alt.LayerChart:
    """Training loss raw and smoothed, validation loss, and dashed reference lines.

    Args:
        frame: from `metrics_frame`, with at least one row.
        references: name of each line and its height in nats.
    """
    curves = [
        frame[["step", "loss"]].assign(curve="train"),
        frame[["step"]].assign(loss=smooth(frame["loss"]), curve="train, smoothed"),
    ]
    if "val_loss" in frame:
        validation = frame.loc[frame["val_loss"].notna(), ["step", "val_loss"]]
        curves.append(validation.set_axis(["step", "loss"], axis=1).assign(curve="validation"))
    names = ["train", "train, smoothed", "validation"]
    colour = alt.Color(
        "curve:N",
        scale=alt.Scale(domain=names, range=["#8fb9be", "#0f8a94", "#e07a2f"]),
        legend=alt.Legend(title=None, orient="top"),
    )
    base = alt.Chart(pd.concat(curves)).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(format="d", tickMinStep=1)),
        y=alt.Y("loss:Q", title="loss (nats a token)", scale=alt.Scale(zero=False)),
        color=colour,
        tooltip=["curve:N", "step:Q", alt.Tooltip("loss:Q", format=".4f")],
    )
    layers = [
        base.transform_filter(alt.datum.curve == "train").mark_line(strokeWidth=1, opacity=0.6),
        base.transform_filter(alt.datum.curve == "train, smoothed").mark_line(strokeWidth=2.5),
        base.transform_filter(alt.datum.curve == "validation").mark_line(
            strokeWidth=2, point=alt.OverlayMarkDef(size=50)
        ),
    ]
    return alt.layer(*layers, *reference_lines(references)).properties(height=HEIGHT)


def smooth(values: pd.Series) -> pd.Series:
    """The mean over the neighbours on both sides, so that a falling curve is not shown late."""
    window = 2 * min(SMOOTHING_POINTS, len(values) // 20) + 1
    return values.rolling(window, center=True, min_periods=1).mean()


def reference_lines(references: dict[str, float]) -> list[alt.Chart]:
    """Dashed horizontal lines, each with its name above."""
    table = pd.DataFrame({"name": list(references), "height": list(references.values())})
    base = alt.Chart(table).encode(y="height:Q")
    label = {"align": "right", "dy": -7, "color": "#7d8f93", "fontSize": 11}
    return [
        base.mark_rule(strokeDash=[5, 4], color="#7d8f93"),
        base.mark_text(**label).encode(x=alt.value("width"), text="name:N"),
    ]


def line_chart(
    frame: pd.DataFrame, columns: dict[str, str], title: str, log: bool = False
) -> alt.Chart:
    """One line a column over the steps.

    Args:
        frame: from `metrics_frame`.
        columns: name of each column and what the legend calls it; absent ones are left out.
        title: of the vertical axis.
        log: whether that axis is logarithmic.
    """
    present = {name: label for name, label in columns.items() if name in frame}
    table = frame[["step", *present]].rename(columns=present).melt("step", var_name="curve")
    scale = alt.Scale(type="log" if log else "linear", zero=False)
    return (
        alt.Chart(table.dropna())
        .mark_line(point=len(frame) < 3, strokeWidth=2)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y("value:Q", title=title, scale=scale),
            color=alt.Color(
                "curve:N",
                scale=alt.Scale(domain=list(present.values()), range=["#0f8a94", "#e07a2f"]),
                legend=alt.Legend(title=None, orient="top") if len(present) > 1 else None,
            ),
            tooltip=["curve:N", "step:Q", alt.Tooltip("value:Q", format=".5g")],
        )
        .properties(height=HEIGHT)
    )
