"""The tables and maps of the Inspect page: what `generation.inspection` gives, drawn."""

import html
from collections.abc import Iterable

import numpy as np
import pandas as pd
import streamlit as st

TEAL, ORANGE = "#12a0ac", "#e07a2f"  # seen on white and on black
STRONGEST = 0.5  # opacity of a cell; the text over it stays readable
CELL = 14  # pixels of a map's row and column: its labels do not run into each other
STYLE = """<style>
.inspected, .st-key-inspect-map, .st-key-inspect-slots { overflow-x: auto }
.inspected table { border-collapse: separate; border-spacing: 2px; margin: 0 auto 0 0 }
.inspected th, .inspected td {
  border: 0; padding: 2px 6px; font-weight: normal; white-space: pre; text-align: left;
  border-radius: 3px }
.inspected code { background: none; color: inherit; padding: 0; font-size: 0.85rem }
.inspected .chosen { outline: 2px solid currentColor; outline-offset: -2px }
.inspected th[scope=row] {
  position: sticky; left: 0; background: var(--st-background-color, Canvas) }
.inspected .bar { min-width: 9rem; width: 100% }
.inspected .bar div { height: 1.1rem; border-radius: 3px; min-width: 1px }
</style>"""


def expected(result: dict) -> str:
    """The model's guesses for the chosen token and the token itself, as an HTML table with bars."""
    row, tokens = result["token"] - 1, result["tokens"]
    guesses = _guesses(result, -1, row)
    actual = tokens[row + 1] if row + 1 < len(tokens) else None
    if actual is not None and actual not in (text for text, _ in guesses):
        guesses.append((actual, result["of_next"][-1][row]))
    lines = []
    for text, probability in guesses:
        is_actual = text == actual
        bar = f'<div style="width: {probability:.1%}; background: {TEAL if is_actual else ORANGE}">'
        lines.append(
            f"<tr><th scope=row>{_quoted(text)}</th><td>{probability:.1%}</td>"
            f"<td class=bar>{bar}</div></td><td>{'it is in the text' if is_actual else ''}</td>"
        )
    return _table("Guesses for the chosen token", lines)


def top_guesses(result: dict) -> str:
    """A row per block: the likeliest tokens after it, the stronger the likelier, as HTML."""
    lines = []
    for layer, name in enumerate(_block_names(result)):
        cells = (
            _cell(f"{_quoted(text)} {probability:.0%}", probability)
            for text, probability in _guesses(result, layer, result["token"] - 1)
        )
        lines.append(f"<tr><th scope=row>{name}</th>{''.join(cells)}")
    return _table("Top guesses after each block", lines)


def improvement(result: dict) -> str:
    """Blocks by tokens: how likely each token would have been after each block, as HTML."""
    tokens = range(result["first"] + 1, min(result["last"] + 1, len(result["tokens"])))
    heads = (
        f"<th scope=col{_chosen(result, token)}>{_quoted(result['tokens'][token])}</th>"
        for token in tokens
    )
    lines = [f"<tr><th scope=row>after</th>{''.join(heads)}"]
    for layer, name in enumerate(_block_names(result)):
        likely = (result["of_next"][layer][token - 1] for token in tokens)
        cells = (_cell(f"{probability:.0%}", probability) for probability in likely)
        lines.append(f"<tr><th scope=row>{name}</th>{''.join(cells)}")
    is_late = 2 * (result["token"] - tokens.start) > len(tokens)
    return _table("Probability of each token after each block", lines, from_end=is_late)


def looked_at(result: dict, looks: np.ndarray, slots: np.ndarray) -> str:
    """A sentence: what the token before the chosen one takes its values from, in one head."""
    row = result["token"] - 1
    weights = looks[row - result["first"]].astype("float32")
    best = [int(index) for index in np.argsort(-weights, kind="stable")[:3] if weights[index] > 0]
    names = [f"{_name(result, result['begin'] + index)} ({weights[index]:.0%})" for index in best]
    on_slots = float(slots[row - result["first"]].sum(dtype="float32"))
    if on_slots >= 0.005:
        names.append(f"the slots ({on_slots:.0%})")
    return f"Token {_name(result, row)} looks most at {', '.join(names)}."


def draw_looks(result: dict, looks: np.ndarray, alt: str) -> None:
    """A head's weights (shown tokens, tokens from `begin` on): rows look at columns."""
    first, last = result["first"], result["last"]
    names = [_name(result, token) for token in range(first, last)]
    row, column = np.tril_indices(last - first)
    weights = looks[row, first - result["begin"] + column]
    _draw_map(names, names, row, column, weights, TEAL, "inspect.looks", alt)


def draw_slots(result: dict, slots: np.ndarray, alt: str) -> None:
    """A head's weights on its slots (shown tokens, num_slots)."""
    names = [_name(result, token) for token in range(result["first"], result["last"])]
    row, slot = (axis.ravel() for axis in np.indices(slots.shape))
    numbers = [str(index + 1) for index in range(slots.shape[1])]
    _draw_map(names, numbers, row, slot, slots[row, slot], ORANGE, "inspect.slots", alt)


def _draw_map(rows, columns, row, column, weights, colour: str, key: str, alt: str) -> None:
    table = pd.DataFrame(
        {
            "looks": [rows[index] for index in row],
            "at": [columns[index] for index in column],
            "weight": weights.astype("float32"),
            # By the square root, or half of what is there would not be seen.
            "strength": np.sqrt(weights.astype("float32") / max(float(weights.max()), 1e-6)),
        }
    )
    drawing = _map_spec(colour) | {"datasets": {"weights": table}}
    st.vega_lite_chart(drawing, width="content", key=key, alt=alt)


def _map_spec(colour: str) -> dict:
    """The Vega-Lite drawing of a table of weights; it never changes, only its data does."""
    axis = {
        "title": None,
        "labelLimit": 90,
        "labelOverlap": False,
        "labelFlush": False,  # or the first label is moved onto the second
        "labelFontSize": 12,
        "labelColor": "currentColor",  # the theme's text
    }
    return {
        "autosize": {"type": "pad"},
        "data": {"name": "weights"},
        "width": {"step": CELL},
        "height": {"step": CELL},
        "mark": {"type": "rect", "color": colour},
        "encoding": {
            "x": {
                "field": "at",
                "type": "ordinal",
                "sort": None,
                "axis": axis | {"labelAngle": 90},
            },
            "y": {"field": "looks", "type": "ordinal", "sort": None, "axis": axis},
            "opacity": {
                "field": "strength",
                "type": "quantitative",
                "legend": None,
                "scale": {"domain": [0, 1], "range": [0, 1]},
            },
            "tooltip": [
                {"field": "looks", "title": "token"},
                {"field": "at", "title": "looks at"},
                {"field": "weight", "type": "quantitative", "format": ".1%"},
            ],
        },
    }


def _guesses(result: dict, layer: int, row: int) -> list[tuple[str, float]]:
    texts, numbers = result["alternatives"][layer][row], result["probabilities"][layer][row]
    return [*zip(texts, numbers, strict=True)]


def _block_names(result: dict) -> list[str]:
    return ["embedding", *(f"block {b + 1}" for b in range(result["num_blocks"]))]


def _name(result: dict, token: int) -> str:
    """A token's index and text, which no other token has."""
    return f"{token} {result['tokens'][token]!r}"


def _quoted(text: str) -> str:
    return f"<code>{html.escape(repr(text))}</code>"


def _chosen(result: dict, token: int) -> str:
    return " class=chosen" if token == result["token"] else ""


def _cell(content: str, part: float) -> str:
    """A cell the stronger the greater the part; by the square root, for small ones to be seen."""
    return f'<td style="background: rgba(18, 160, 172, {STRONGEST * part**0.5:.2f})">{content}</td>'


def _table(label: str, lines: Iterable[str], from_end: bool = False) -> str:
    """Rows of HTML in a box that scrolls to the side, also by keyboard; at first from its end?"""
    rows = "".join(f"{line}</tr>" for line in lines)
    return (
        f'{STYLE}<div class="inspected" role="region" tabindex="0" aria-label="{label}"'
        f"{' dir=rtl' if from_end else ''}><table dir=ltr>{rows}</table></div>"
    )
