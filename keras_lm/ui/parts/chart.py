"""A chart of curves on a page: what a person may choose of it, its drawing, and it in words."""

import html

import pandas as pd
import streamlit as st

from keras_lm.presentation.curves import (
    AXES,
    HOVER,
    MOST_SMOOTHING,
    SMOOTHING,
    TABLE,
    WHOLE,
    ZOOM,
    ChartOptions,
    Look,
    curves_spec,
    describe,
    hover_table,
    part_of,
)
from keras_lm.presentation.formatting import CHART_HEIGHT, OPTIONS_HEIGHT

HOW_TO_ZOOM = "Ctrl and wheel: zoom. Drag: move. Double click: all of it."


def chart_options() -> ChartOptions:
    """Draws the choices in one small row; they hold for all charts of this session."""
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        height=OPTIONS_HEIGHT,
        border=False,
        key="chart-options",
    ):
        with st.popover("Chart", icon=":material/tune:", type="tertiary"):
            axis = st.segmented_control(
                "Along",
                [*AXES],
                default="Steps",
                required=True,
                key="chart.axis",
                persist_state="session",
            )
            smoothing = st.slider(
                "Smoothing",
                0,
                MOST_SMOOTHING,
                SMOOTHING,
                key="chart.smoothing",
                persist_state="session",
                help="How many points on either side are averaged; 0 shows the curve as it is.",
            )
            log = st.toggle(
                "Logarithmic height",
                key="chart.log",
                persist_state="session",
                help="Equal ratios get equal heights; perplexity is always drawn so.",
            )
            part = st.slider(
                "Part",
                *WHOLE,
                WHOLE,
                format="%d%%",
                key="chart.part",
                persist_state="session",
                help="Which part is drawn, from its start to its end. With a mouse or a touchpad "
                "you can also zoom in the chart: hold Ctrl (⌘ on a Mac) and turn the wheel, or "
                "pinch; drag to move; click twice to see all of it again.",
            )
        st.caption(HOW_TO_ZOOM)
    return ChartOptions(axis, smoothing, log, part)


def draw_chart(
    looks: tuple[tuple[str, Look], ...],
    title: str,
    table: pd.DataFrame,
    options: ChartOptions,
    key: str,
) -> None:
    """Shows curves, and says in words what they do.

    Args:
        looks: name and look of each curve.
        title: of the vertical axis.
        table: of the curves, made with the same options.
        options: what was chosen.
        key: of this chart.
    """
    table = part_of(table, options.part)
    tables = {TABLE: table, HOVER: hover_table(table, [name for name, _ in looks])}
    drawing = curves_spec(looks, title, options.axis, options.log)
    words = describe(table, options.axis)
    with st.container(height=CHART_HEIGHT - OPTIONS_HEIGHT, border=False, key="curve"):
        # Streamlit ends a zoom that is no selection of its own at the next new point. With other
        # words as its alternative text the chart would be drawn anew: they stand beside it.
        st.vega_lite_chart(
            drawing | {"datasets": tables},
            key=".".join([key, options.axis, *map(str, (options.log, *options.part))]),
            alt=f"Curves: {title}",
            on_select="rerun",
            selection_mode=ZOOM,
        )
        st.html(f'<p class="for-readers">{html.escape(words)}</p>')
