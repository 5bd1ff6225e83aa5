"""The curves of several runs or of a race in one chart, and the choice of what it shows."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from keras_lm.presentation.charts import TABLE
from keras_lm.presentation.formatting import CHART_HEIGHT
from keras_lm.presentation.race_charts import AXES, MEASURES, describe_race, race_spec


def draw_compared(names: Sequence[str], table_of: Callable[[str], pd.DataFrame], key: str) -> None:
    """Draws the chart below its two choices.

    Args:
        names: of all curves, in their order.
        table_of: gives the table of a value of MEASURES, with the columns of `race_table`.
        key: begins the keys of the widgets.
    """
    with st.container(horizontal=True):
        measure = st.segmented_control(
            "Loss", [*MEASURES], default="Validation", required=True, key=f"{key}.measure"
        )
        axis = st.segmented_control(
            "Along", [*AXES], default="Steps", required=True, key=f"{key}.axis"
        )
    table = table_of(MEASURES[measure])
    with st.container(height=CHART_HEIGHT + 20, border=False):
        if table.empty:
            st.caption("No point of a curve yet.")
            return
        with_data = race_spec(tuple(names), axis, measure) | {"datasets": {TABLE: table}}
        st.vega_lite_chart(with_data, key=f"{key}.chart", alt=describe_race(table))
