"""The Inspect page: how likely each token was to the model, and how its guesses form."""

import base64
import html
from pathlib import Path

import numpy as np
import streamlit as st

from keras_lm.runs.workers import Reply
from keras_lm.ui import maps
from keras_lm.ui.models import BUSY, binding, choose_model, find_worker, loading_error
from keras_lm.ui.services import escape_markdown

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 0.6  # most answers come sooner, and the page need not be drawn twice
ORANGE = "224, 122, 47"  # seen on white and on black; the text over it stays readable
DARKEST, FLOOR = 0.6, 1e-3  # how opaque a token is whose probability is this small or smaller


def page() -> None:
    """Draws the page."""
    st.title("Inspect")
    model_file = choose_model()
    if model_file is None:
        return
    text = st.text_area(
        "Text",
        "The man",
        key="text",
        height=120,
        on_change=forget_choice,
        bind=binding("text"),
    )
    if "inspection" in st.session_state and st.session_state["inspection"][0] != model_file:
        forget_choice()
    reply = ask(model_file, text)
    done = reply is not None and reply.wait(PATIENCE_SECONDS)
    st.fragment(explore, run_every=None if done else POLL_SECONDS)(model_file, text, done)


def forget_choice() -> None:
    """Another text or model: its end and the last block are looked at first."""
    for key in ("inspect.token", "inspect.block", "inspect.head"):
        st.session_state.pop(key, None)


def ask(model_file: Path, text: str) -> Reply | None:
    """What the model's worker says of the text; it is asked when something else is wanted.

    None while other models' workers leave no room. What was answered stays without its worker.
    """
    state = st.session_state
    try:
        version = model_file.stat().st_mtime_ns
    except FileNotFoundError:  # another tab has deleted the run
        st.rerun()
    wanted = (model_file, version, text, state.get("inspect.token"), state.get("inspect.block"))
    *known, worker, reply = state.get("inspection", (None, None))
    if tuple(known) == wanted and (worker.is_alive or (reply.done and not reply.error)):
        return reply
    worker = find_worker(model_file)
    if worker is None:
        return None
    state["inspection"] = (*wanted, worker, worker.inspect(*wanted[2:]))
    return state["inspection"][-1]


def explore(model_file: Path, text: str, was_done: bool) -> None:
    """All that the model says of the text, and the choice of token, block and head."""
    reply = ask(model_file, text)
    done = reply is not None and reply.wait(PATIENCE_SECONDS)
    if done != was_done:
        st.rerun()  # the whole page: the polling begins or ends
    if reply is None:
        st.caption(f"{BUSY}: this one's turn comes in a moment.")
        return
    _, version, *_, worker, _ = st.session_state["inspection"]
    if error := loading_error(worker, model_file) or reply.error:
        st.error(escape_markdown(error), icon=":material/error:")
    elif not done:
        st.caption("The model reads the text; loading it takes some seconds the first time.")
    else:
        token, block = reply.result["token"], reply.result["block"]  # within what there is
        st.session_state.update({"inspect.token": token, "inspect.block": block})
        st.session_state["inspection"] = (model_file, version, text, token, block, worker, reply)
        draw_result(reply.result)


def draw_result(result: dict) -> None:
    """All parts of the page below the text."""
    notes(result)
    numbers(result)
    st.html(shaded(result))
    maps.draw_surprise(result)
    tokens = result["tokens"]
    st.slider(
        "Token",
        1,
        len(tokens),
        key="inspect.token",
        help="Whose guess is looked into: token 0 is the first one; the last place is what comes "
        "after the text. A click on a bar above chooses it, too.",
    )
    place = result["token"]
    shown = repr(tokens[place]) if place < len(tokens) else "what comes next"
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("What it weighed", help="The likeliest tokens, and how likely they were.")
        st.text(f"In the place of token {place}: {shown}")
        maps.draw_alternatives(result)
    with right:
        st.subheader(
            "Block by block",
            help="Final norm and output layer applied to the stream after each block: what it "
            "would guess if it ended there.",
        )
        st.text("The likeliest token after each block, and its four rivals")
        maps.draw_guesses(result)
    st.subheader(
        "How the text becomes likely",
        help="The probability of every token of the text, as it would be after each block.",
    )
    maps.draw_probabilities_by_block(result)
    draw_attention(result)


def notes(result: dict) -> None:
    """What of the text was not read."""
    if unknown := result["unknown"]:
        shown = " ".join(repr(piece) for piece in unknown[:10])
        st.text(f"Left out, the model does not know: {shown}.")
    if result["left_out"]:
        st.caption(
            f"Only the first {len(result['tokens']):,} tokens are looked at; "
            f"{result['left_out']:,} more were left out."
        )


def numbers(result: dict) -> None:
    """The whole text in four numbers."""
    likely = np.array(result["scores"]["of_next"])
    best = [row[0] for row in result["scores"]["probabilities"][: len(likely)]]
    cells = [
        ("Tokens", f"{len(result['tokens']):,}", "What the model reads and writes."),
        ("Perplexity", f"{result['perplexity']:.2f}", "Between how many tokens it is undecided."),
        ("Bits a byte", f"{result['bits_per_byte']:.2f}", "A loss that compares tokenizers."),
        (
            "Likeliest",
            f"{np.mean(likely >= best):.0%}",
            "How often the token that came was the likeliest one.",
        ),
    ]
    with st.container(horizontal=True):
        for label, value, help_text in cells:
            st.metric(label, value, help=help_text, border=True, width=140)


def shaded(result: dict) -> str:
    """The text as HTML, each token the more coloured the less likely it was; more on hover."""
    spans = []
    for place, token in enumerate(result["tokens"]):
        hover = html.escape(maps.describe(result, place), quote=True).replace("\n", "&#10;")
        colour = ""
        if place:
            likely = result["scores"]["of_next"][place - 1]
            part = np.log(max(likely, FLOOR)) / np.log(FLOOR) + 0.0  # never -0.0
            colour = f"background: rgba({ORANGE}, {DARKEST * part:.2f})"
        text = html.escape(token).replace("\n", "↵\n")
        spans.append(f'<span style="{colour}" title="{hover}">{text}</span>')
    return (
        '<div class="shaded" style="white-space: pre-wrap; overflow-wrap: anywhere; '
        f'line-height: 1.7; font-family: monospace">{"".join(spans)}</div>'
    )


def draw_attention(result: dict) -> None:
    """One head's map, and for `linear` its slots."""
    st.subheader(
        "Attention",
        help="Each row is a token that looks back; the stronger a cell, the more of that token's "
        "value it takes.",
    )
    window, slots = unpack(result["window"]), unpack(result["slots"])
    block_column, head_column = st.columns(2)
    if result["num_blocks"] > 1:
        block_column.select_slider(
            "Block",
            range(result["num_blocks"]),
            key="inspect.block",
            format_func=lambda b: str(b + 1),
        )
    head = 0
    if len(window) > 1:
        head = head_column.select_slider(
            "Head", range(len(window)), key="inspect.head", format_func=lambda h: str(h + 1)
        )
    if not slots.shape[-1]:
        maps.draw_attention(result, window[head])
        return
    left, right = st.columns([3, 1], gap="medium")
    with left:
        st.text("The window: the last one to two chunks, exactly")
        maps.draw_attention(result, window[head])
    with right:
        st.text("The slots: what is older, in averages")
        maps.draw_slots(result, slots[head])


def unpack(packed: dict) -> np.ndarray:
    """The array of a JSON object that `keras_lm.inspection.pack` made."""
    data = base64.b64decode(packed["float16"])
    return np.frombuffer(data, "<f2").reshape(packed["shape"])
