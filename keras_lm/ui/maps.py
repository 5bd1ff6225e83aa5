"""The drawings of the Inspect page, by Altair, of what `keras_lm.inspection.inspect` gives."""

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

TEAL, ORANGE = "#12a0ac", "#e07a2f"  # seen on white and on black
FAINTEST = 0.004  # an attention weight below this is not seen
MOST_LABELS = 40  # tokens whose texts fit along an axis
ROW_HEIGHT, AXIS_HEIGHT = 26, 44  # pixels; a chart's height holds its axis
MAP_HEIGHT = 480
ALL_LABELS = alt.Axis(labelLimit=160, labelOverlap=False)


def describe(result: dict, place: int) -> str:
    """What is told of the token at a place when the mouse is over it; a line each."""
    tokens, scores = result["tokens"], result["scores"]
    if place == 0:
        return f"token 0: {tokens[0]!r}\nthe first, which nothing foretells"
    told = f"token {place}: {tokens[place]!r}\nprobability {scores['of_next'][place - 1]:.2%}"
    told += f"\nentropy {scores['entropies'][place - 1]:.2f} nats\n"
    return told + "weighed: " + ", ".join(weighed(scores, place - 1))


def weighed(scores: dict, row: int) -> list[str]:
    """The likeliest tokens after a row, each with its probability."""
    pairs = zip(scores["alternatives"][row], scores["probabilities"][row], strict=True)
    return [f"{text!r} {probability:.1%}" for text, probability in pairs]


def draw_surprise(result: dict) -> None:
    """A bar a token, its surprise in bits; a click on one chooses it."""
    scores, tokens = result["scores"], result["tokens"]
    places = range(1, len(tokens))
    table = pd.DataFrame(
        {
            "place": places,
            "token": [repr(token) for token in tokens[1:]],
            "probability": scores["of_next"],
            "surprise": -np.log2(np.maximum(scores["of_next"], 1e-6)),
            "entropy": scores["entropies"][: len(places)],
            "weighed": [", ".join(weighed(scores, row)) for row in range(len(places))],
            "chosen": [place == result["token"] for place in places],
        }
    )
    pick = alt.selection_point(name="pick", fields=["place"], on="click", empty=False)
    bars = (
        alt.Chart(table, height=170)
        .mark_bar(cursor="pointer")
        .encode(
            x=alt.X("place:O", title="token", axis=_places_axis(len(tokens))),
            y=alt.Y("surprise:Q", title="bits of surprise", axis=alt.Axis(tickCount=4)),
            color=alt.condition("datum.chosen", alt.value(TEAL), alt.value(ORANGE)),
            tooltip=[
                "place:O",
                "token:N",
                alt.Tooltip("probability:Q", format=".2%"),
                alt.Tooltip("entropy:Q", format=".2f", title="entropy (nats)"),
                "weighed:N",
            ],
        )
        .add_params(pick)
    )
    st.altair_chart(bars, key="inspect.surprise", on_select=_choose, selection_mode="pick")


def _choose() -> None:
    points = st.session_state["inspect.surprise"]["selection"]["pick"]
    if points:
        st.session_state["inspect.token"] = int(points[0]["place"])


def draw_alternatives(result: dict) -> None:
    """The likeliest tokens in the place that is looked into, as bars."""
    row = result["token"] - 1
    texts = [repr(text) for text in result["scores"]["alternatives"][row]]
    table = pd.DataFrame({"token": texts, "probability": result["scores"]["probabilities"][row]})
    actual = repr(result["tokens"][row + 1]) if row + 1 < len(result["tokens"]) else None
    base = alt.Chart(table, height=len(texts) * ROW_HEIGHT + AXIS_HEIGHT).encode(
        y=alt.Y("token:N", sort=texts, title=None, axis=ALL_LABELS),
        x=alt.X(
            "probability:Q",
            title=None,
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%", tickCount=5),
        ),
        tooltip=["token:N", alt.Tooltip("probability:Q", format=".2%")],
    )
    is_actual = alt.FieldEqualPredicate("token", actual) if actual else "false"
    bars = base.mark_bar(height=ROW_HEIGHT - 8).encode(
        color=alt.condition(is_actual, alt.value(TEAL), alt.value(ORANGE))
    )
    st.altair_chart(bars, key="inspect.alternatives")


def draw_guesses(result: dict) -> None:
    """A row a block, the likeliest tokens after it, the stronger the likelier."""
    row, insides = result["token"] - 1 - result["begin"], result["insides"]
    cells = [
        {"block": name, "rank": rank, "token": repr(text), "probability": probability}
        for index, name in enumerate(_block_names(result))
        for rank, (text, probability) in enumerate(
            zip(
                insides["alternatives"][index][row],
                insides["probabilities"][index][row],
                strict=True,
            ),
            1,
        )
    ]
    base = alt.Chart(pd.DataFrame(cells)).encode(
        x=alt.X("rank:O", title=None, axis=None),
        y=alt.Y("block:N", sort=_block_names(result), title=None, axis=ALL_LABELS),
        tooltip=["block:N", "token:N", alt.Tooltip("probability:Q", format=".2%")],
    )
    chart = base.mark_rect(color=TEAL).encode(opacity=_opacity("probability", 1.0))
    chart += base.mark_text(limit=90, fontSize=12).encode(text="token:N", color=_text_colour())
    st.altair_chart(
        chart.properties(height=(1 + result["num_blocks"]) * ROW_HEIGHT), key="inspect.guesses"
    )


def draw_probabilities_by_block(result: dict) -> None:
    """Tokens by blocks: how likely each token would have been after each block."""
    insides, begin, names = result["insides"], result["begin"], _block_names(result)
    likely = np.array(insides["of_next"])  # (num_blocks + 1, length - 1)
    block, column = (axis.ravel() for axis in np.indices(likely.shape))
    table = pd.DataFrame(
        {
            "place": begin + 1 + column,
            "token": [repr(result["tokens"][begin + 1 + c]) for c in column],
            "block": [names[b] for b in block],
            "probability": likely.ravel(),
            "guess": [
                repr(insides["alternatives"][b][c][0]) for b, c in zip(block, column, strict=True)
            ],
        }
    )
    chart = (
        alt.Chart(table, height=(1 + result["num_blocks"]) * ROW_HEIGHT + AXIS_HEIGHT)
        .mark_rect(color=TEAL)
        .encode(
            x=alt.X("place:O", title="token", axis=_places_axis(likely.shape[1])),
            y=alt.Y("block:N", sort=names, title=None, axis=ALL_LABELS),
            opacity=_opacity("probability", 1.0),
            tooltip=[
                "place:O",
                "token:N",
                "block:N",
                alt.Tooltip("probability:Q", format=".2%"),
                alt.Tooltip("guess:N", title="likeliest"),
            ],
        )
    )
    st.altair_chart(chart, key="inspect.by_block")


def draw_attention(result: dict, weights: np.ndarray) -> None:
    """A head's weights (length, length): rows look at columns."""
    names = _places(result)
    row, column = np.nonzero(weights > FAINTEST)
    table = pd.DataFrame(
        {
            "looks": [names[r] for r in row],
            "at": [names[c] for c in column],
            "weight": weights[row, column].astype("float32"),
        }
    )
    axis = _sparse_axis(len(names))
    chart = (
        alt.Chart(table, height=MAP_HEIGHT)
        .mark_rect(color=TEAL)
        .encode(
            x=alt.X("at:O", title="token looked at", sort=None, axis=axis, scale=_all(names)),
            y=alt.Y("looks:O", title="token that looks", sort=None, axis=axis, scale=_all(names)),
            opacity=_opacity("weight", float(weights.max())),
            tooltip=["looks:O", "at:O", alt.Tooltip("weight:Q", format=".1%")],
        )
    )
    st.altair_chart(chart, key="inspect.attention")


def draw_slots(result: dict, weights: np.ndarray) -> None:
    """A head's weights on the slots (length, num_slots)."""
    if not weights.any():
        st.caption("They are empty: the whole text lies within the window.")
        return
    names, slots = _places(result), [str(slot) for slot in range(weights.shape[1])]
    row, slot = np.nonzero(weights > 0)
    table = pd.DataFrame(
        {
            "looks": [names[r] for r in row],
            "slot": [slots[s] for s in slot],
            "weight": weights[row, slot].astype("float32"),
        }
    )
    axis = _sparse_axis(len(names))
    chart = (
        alt.Chart(table, height=MAP_HEIGHT)
        .mark_rect(color=ORANGE)
        .encode(
            x=alt.X("slot:O", sort=None, axis=_sparse_axis(len(slots)), scale=_all(slots)),
            y=alt.Y("looks:O", title=None, sort=None, axis=axis, scale=_all(names)),
            opacity=_opacity("weight", float(weights.max())),
            tooltip=["looks:O", "slot:O", alt.Tooltip("weight:Q", format=".3%")],
        )
    )
    st.altair_chart(chart, key="inspect.slots")


def _block_names(result: dict) -> list[str]:
    return ["embedding", *(f"block {b + 1}" for b in range(result["num_blocks"]))]


def _places(result: dict) -> list[str]:
    """The tokens within the model's view, each with its place, which makes it the only one."""
    begin, end = result["begin"], result["end"]
    return [f"{place} {result['tokens'][place]!r}" for place in range(begin, end)]


def _all(names: list[str]) -> alt.Scale:
    return alt.Scale(domain=names, paddingInner=0)


def _sparse_axis(count: int) -> alt.Axis:
    """An axis whose labels do not run into each other."""
    few = count <= MOST_LABELS
    return alt.Axis(
        labelLimit=80, labelOverlap="greedy", ticks=few, labelSeparation=3 if few else 9
    )


def _places_axis(count: int) -> alt.Axis:
    """The same of numbers, which stand upright."""
    axis = _sparse_axis(count)
    axis.labelAngle = 0
    return axis


def _opacity(field: str, most: float) -> alt.Opacity:
    # By the square root, or half of what is there would not be seen.
    scale = alt.Scale(type="sqrt", domain=[0, max(most, 1e-6)], range=[0, 1], clamp=True)
    return alt.Opacity(f"{field}:Q", scale=scale, legend=None)


def _text_colour() -> alt.Color:
    """Of the theme, as that of the axes."""
    return alt.value("currentColor")
