"""The curves of several runs or of a race in one chart, and the choice of what it shows."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from keras_lm.presentation.race_charts import (
    MEASURES,
    VALIDATION,
    compared_looks,
    compared_table,
    title,
)
from keras_lm.ui.parts.chart import chart_options, draw_chart


def draw_compared(names: Sequence[str], table_of: Callable[[str], pd.DataFrame], key: str) -> None:
    """Draws the chart below the choice of its measure.

    Args:
        names: of all curves, in their order.
        table_of: gives the table of a value of MEASURES, with the columns of `race_table`.
        key: begins the keys of the widgets.
    """
    measure = st.segmented_control(
        "Loss", [*MEASURES], default="Validation", required=True, key=f"{key}.measure"
    )
    options = chart_options()
    if measure == VALIDATION:  # of so few points each is seen as it is
        options = options._replace(smoothing=0)
    table = compared_table(table_of(MEASURES[measure]), options)
    key = ".".join([key, "chart", measure, *names])
    draw_chart(compared_looks(names), title(measure, options), table, options, key)
