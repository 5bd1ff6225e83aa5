"""What the charts of a run show of its events; nothing before its first."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from keras_lm.presentation.curves import (
    ABOVE,
    AXES,
    BELOW,
    BEST,
    MARK,
    MAX_POINTS,
    USUAL,
    ChartOptions,
    Look,
    join,
    reference,
    rows,
    smooth,
)
from keras_lm.presentation.forgetting import FIRST_BITS

AT_RANDOM = "random guessing, ln(vocabulary)"
BY_FREQUENCY = "guessing by frequency, unigram entropy"  # never above AT_RANDOM
LOSS_TITLE = "loss (nats per token)"
LONGER = "trained longer"  # marks where
PALE, TEAL, ORANGE = "#8fb9be", "#0f8a94", "#e07a2f"
FORGETTING_TITLE = "validation, bits per byte"
BOTH_TEXTS = {"val_bits_per_byte": "this text", FIRST_BITS: "first text"}
BEFORE = "first text before"
FORGETTING_LOOKS = (
    (BOTH_TEXTS["val_bits_per_byte"], Look(ORANGE, point=50)),
    (BOTH_TEXTS[FIRST_BITS], Look(TEAL, point=50)),
)
UNSMOOTHED = ("learning_rate",)  # its corners are those of the plan
TRAIN, VALIDATION, SMOOTHED = "train", "validation", ", smoothed"  # the last ends a name
LOSSES = {"loss": TRAIN, "val_loss": VALIDATION}


def metrics_frame(events: list[dict]) -> pd.DataFrame:
    """The metrics events, one per row: MAX_POINTS, as many that have a validation, and the last.

    The last and the best validation are among them.
    """
    metrics = [event for event in events if event["kind"] == "metrics"]
    validated = [event for event in metrics if "val_loss" in event]
    best = sorted(validated, key=lambda event: event["val_loss"])[:1]
    needed = (*metrics[-1:], *validated[-1:], *best)
    kept = {id(event) for event in (*_thin(metrics), *_thin(validated), *needed)}
    return pd.DataFrame([event for event in metrics if id(event) in kept])


def longer_marks(events: list[dict]) -> list[int]:
    """The steps from which a run was trained longer."""
    begins = (event.get("begin", 0) for event in events if event["kind"] == "plan")
    return sorted({begin for begin in begins if begin})


def _thin(events: list[dict]) -> list[dict]:
    return events[:: math.ceil(len(events) / MAX_POINTS) or 1]


def loss_table(
    frame: pd.DataFrame,
    references: Mapping[str, float],
    marks: Sequence[int] = (),
    options: ChartOptions = USUAL,
) -> pd.DataFrame:
    """Training loss raw and smoothed, validation loss, and a row for each line beside them.

    Args:
        frame: from `metrics_frame`.
        references: name of each line and its height in nats.
        marks: steps from which the run was trained longer.
        options: of the chart.

    Returns:
        The table of `curves.curves_spec`, with `loss_looks`.
    """
    if frame.empty:
        return join([], [], options.log)
    x, loss = frame[AXES[options.axis]], frame["loss"]
    last = x.iloc[-1]
    beside = [
        reference(name, value, BELOW if name == BY_FREQUENCY else ABOVE, last)
        for name, value in references.items()
    ]
    if "val_loss" in frame and not math.isnan(best := frame["val_loss"].min()):
        beside.append(reference(f"best so far, {best:.3f}", best, BEST, last))
    for step in marks:
        at = x[frame["step"] >= step]
        beside.append(reference(LONGER, loss.iloc[-1], MARK, at.iloc[0] if len(at) else last))
    return join(_curves(frame, LOSSES, options), beside, options.log)


def loss_looks(options: ChartOptions = USUAL) -> tuple[tuple[str, Look], ...]:
    """How the curves of a `loss_table` are drawn."""
    return curve_looks(LOSSES, options)


def forgetting_table(
    frame: pd.DataFrame, before: float | None, options: ChartOptions = USUAL
) -> pd.DataFrame:
    """Both texts' validation, and what the first one had before the model was taught another.

    Args:
        frame: from `metrics_frame`.
        before: in bits per byte, if it is known.
        options: of the chart; nothing is smoothed.

    Returns:
        The table of `curves.curves_spec`, with FORGETTING_LOOKS.
    """
    curves = _curves(frame, BOTH_TEXTS, options._replace(smoothing=0))
    beside = []
    if before is not None and FIRST_BITS in frame:
        beside.append(reference(BEFORE, before, BELOW, frame[AXES[options.axis]].iloc[-1]))
    return join(curves, beside, options.log)


def curve_table(
    frame: pd.DataFrame, columns: Mapping[str, str], options: ChartOptions = USUAL
) -> pd.DataFrame:
    """Columns of `frame` under the names of their curves, for a drawing with `curve_looks`.

    Args:
        frame: from `metrics_frame`.
        columns: the curve's name of each.
        options: of the chart; what was validated or planned is not smoothed.
    """
    return join(_curves(frame, columns, options), [], options.log)


def curve_looks(
    columns: Mapping[str, str], options: ChartOptions = USUAL
) -> tuple[tuple[str, Look], ...]:
    """How the curves of a `curve_table` are drawn; what is not smoothed is seen in its own right.

    Args:
        columns, options: as of the table.
    """
    looks = []
    for column, name in columns.items():
        if name == VALIDATION:
            looks.append((name, Look(ORANGE, point=50)))
        elif _is_smoothed(column, name, options):
            looks.append((name, Look(PALE, width=1)))
            looks.append((name + SMOOTHED, Look(TEAL, width=2.5)))
        else:
            looks.append((name, Look(TEAL)))
    return tuple(looks)


def _curves(
    frame: pd.DataFrame, columns: Mapping[str, str], options: ChartOptions
) -> list[pd.DataFrame]:
    """The curves of some columns, as they are and then smoothed."""
    curves = []
    for column, name in columns.items():
        if column not in frame:
            continue
        values = frame[column].dropna()
        x = frame[AXES[options.axis]].loc[values.index]
        curves.append(rows(name, x, values))
        if _is_smoothed(column, name, options):
            smoothed = pd.Series(smooth(values, options.smoothing), values.index)
            curves.append(rows(name + SMOOTHED, x, smoothed))
    return curves


def _is_smoothed(column: str, name: str, options: ChartOptions) -> bool:
    return options.smoothing > 0 and name != VALIDATION and column not in UNSMOOTHED
