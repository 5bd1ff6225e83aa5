"""What the attention mechanisms compute, cost and are good for, in words and two charts."""

from pathlib import Path

import altair as alt
import pandas as pd
import streamlit as st

from keras_lm.presentation.curves import GREY, READABLE
from keras_lm.settings.variants import ATTENTIONS

COSTS_FILE = Path(__file__).with_name("attention_costs.csv")  # by `python -m benchmarks.attention`
HEIGHT = 320
COSTS = {"milliseconds": "time of a step (ms)", "megabytes": "memory of a step (MB)"}


def mechanisms(context_length: int) -> None:
    """Draws a sentence for each, and what was measured against length.

    Args:
        context_length: the chosen one, tokens; marked in the charts.
    """
    for attention in ATTENTIONS.values():
        st.markdown(f"**{attention.label}** {attention.sentence}")
    costs = pd.read_csv(COSTS_FILE)
    for place, (column, title) in zip(st.columns(2), COSTS.items(), strict=True):
        chart = cost_chart(costs, column, title, context_length)
        place.altair_chart(chart, alt=f"How the {title} grows with the context.")
    st.caption(
        "One attention layer, forward and backward, on two cores of a server: width 128, 8 heads, "
        f"one sequence. The dashed line is the chosen context, {context_length:,} tokens."
    )


def cost_chart(
    costs: pd.DataFrame, column: str, title: str, context_length: int
) -> alt.LayerChart | alt.FacetChart:
    """One cost against length, both axes logarithmic.

    Args:
        costs: columns attention, length and `column`.
        column: which cost.
        title: of the vertical axis.
        context_length: where the dashed line stands.
    """
    colours = {name: ATTENTIONS[name].colour for name in costs["attention"].unique()}
    ticks = sorted(costs["length"].unique().tolist())
    ends = [min(ticks[0], context_length) / 1.3, ticks[-1] * 1.1]
    scale = alt.Scale(type="log", base=2, domain=ends)
    lines = (
        alt.Chart(costs)
        .mark_line(point=True)
        .encode(
            x=alt.X(
                "length:Q",
                title="context (tokens)",
                scale=scale,
                axis=alt.Axis(values=ticks, format=",d"),
            ),
            y=alt.Y(
                f"{column}:Q",
                title=title,
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(tickCount=4, format="~s", grid=False),
            ),
            color=alt.Color(
                "attention:N",
                title=None,
                legend=alt.Legend(orient="top"),
                scale=alt.Scale(domain=[*colours], range=[*colours.values()]),
            ),
            tooltip=["attention:N", "length:Q", f"{column}:Q"],
        )
    )
    chosen = pd.DataFrame({"length": [context_length]})
    rule = (
        alt.Chart(chosen).mark_rule(strokeDash=[5, 4], color=GREY, clip=True).encode(x="length:Q")
    )
    return alt.layer(lines, rule).properties(height=HEIGHT).configure(**READABLE)
