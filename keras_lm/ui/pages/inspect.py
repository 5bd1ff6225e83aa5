"""The Inspect page: how likely each token was to the model, and how its guesses form."""

import base64
from pathlib import Path

import numpy as np
import streamlit as st

from keras_lm.presentation.formatting import escape_markdown
from keras_lm.runs.workers import Reply
from keras_lm.ui.parts import maps
from keras_lm.ui.parts.beginnings import suggest, to_look_into
from keras_lm.ui.parts.models import (
    BUSY,
    binding,
    choose_model,
    find_worker,
    loading_error,
    text_of,
)
from keras_lm.ui.parts.tokens import choose_token

CARD_WIDTH = 170  # pixels: two in a row on a telephone
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 0.6  # most answers come sooner, and the page need not be drawn twice
SAME_TEXT_SECONDS = 3.0  # another token of a text: what stands there stays until its answer comes
INTRODUCTION = (
    "See your text as the model sees it: which tokens surprise it, what it expected instead, "
    "how its blocks improve a guess, and which earlier tokens it looks at."
)


def page() -> None:
    """Draws the page."""
    st.title("Inspect", anchor=False)
    st.write(INTRODUCTION)
    model_file = choose_model()
    if model_file is None:
        return
    data = text_of(model_file)
    suggest("text", to_look_into(data))
    text = st.text_area(
        "Text", key="text", height=120, on_change=forget_choice, bind=binding("text")
    )
    if data and data.task:
        st.caption(
            "The model learned to answer: what is asked surprises it, the answer should not."
        )
    if "inspection" in st.session_state and st.session_state["inspection"][0] != model_file:
        forget_choice()
    reply = ask(model_file, text)
    done = reply is not None and reply.wait(patience())
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


def patience() -> float:
    """How many seconds the page waits for an answer before it says what it waits for."""
    *_, worker, _ = st.session_state["inspection"]
    is_same_text = "inspect.token" in st.session_state
    return SAME_TEXT_SECONDS if is_same_text and worker.loading.done else PATIENCE_SECONDS


def explore(model_file: Path, text: str, was_done: bool) -> None:
    """All that the model says of the text, and the choice of token, block and head."""
    reply = ask(model_file, text)
    done = reply is not None and reply.wait(patience())
    if done != was_done:
        st.rerun()  # the whole page: the polling begins or ends
    if reply is None:
        st.caption(f"{BUSY}: this one's turn comes in a moment.")
        return
    _, version, *_, worker, _ = st.session_state["inspection"]
    if error := loading_error(worker, model_file) or reply.error:
        st.error(escape_markdown(error), icon=":material/error:")
    elif not worker.loading.done:
        st.caption("Loading the model (a few seconds, the first time only).")
    elif not done:
        st.caption("The model is reading the text.")
    else:
        token, block = reply.result["token"], reply.result["block"]  # within what there is
        st.session_state.update({"inspect.token": token, "inspect.block": block})
        st.session_state["inspection"] = (model_file, version, text, token, block, worker, reply)
        draw_result(reply.result)


def draw_result(result: dict) -> None:
    """All parts of the page below the text."""
    notes(result)
    numbers(result)
    st.header("How much each token surprises the model")
    st.caption(
        "The stronger the colour and the taller the bar, the less likely the token was to the "
        "model. Click a token, or use the arrow keys, and everything below is about that token."
    )
    choose_token(result, choose)
    draw_guesses(result)
    st.header("How each block improves the guess")
    st.caption(
        f"How likely each token would be if the model ended after that block; {which(result)}."
    )
    st.html(maps.improvement(result))
    draw_attention(result)


def choose(token: int) -> None:
    """Everything is about this token from now on."""
    st.session_state["inspect.token"] = token


def which(result: dict) -> str:
    """Which tokens are shown of how many."""
    first, last, count = result["first"], result["last"], len(result["tokens"])
    if last - first == count:
        return f"all {count:,} tokens are shown"
    return f"tokens {first:,} to {last - 1:,} of {count:,} are shown, those around the chosen one"


def draw_guesses(result: dict) -> None:
    """What the model expected as the chosen token, in the end and after each block."""
    token, tokens = result["token"], result["tokens"]
    left, right = st.columns(2, gap="medium")
    with left:
        if token == len(tokens):
            st.subheader("Guesses for the next token")
            st.text("What the model expects to follow the text, and how likely it is.")
        else:
            st.subheader("What the model expected here")
            st.text(
                f"Its five best guesses for token {token}, and how likely it found the token "
                f"{tokens[token]!r} that is there."
            )
        st.html(maps.expected(result))
    with right:
        st.subheader("Top five guesses after each block")
        st.text("What the model would guess here if it ended after that block.")
        st.html(maps.top_guesses(result))


def notes(result: dict) -> None:
    """What of the text was not read."""
    if unknown := result["unknown"]:
        shown = " ".join(repr(piece) for piece in unknown[:10])
        st.text(f"Ignored, since the training text does not contain them: {shown}")
    if result["left_out"]:
        st.caption(
            f"Only the first {len(result['tokens']):,} tokens are read; the last "
            f"{result['left_out']:,} are left out."
        )


def numbers(result: dict) -> None:
    """The whole text in four numbers."""
    likely = np.array(result["of_next"][-1])
    best = [row[0] for row in result["probabilities"][-1][: len(likely)]]
    cells = [
        ("Tokens", f"{len(result['tokens']):,}", "The pieces that the model reads and writes."),
        (
            "Perplexity",
            f"{result['perplexity']:.2f}",
            "As uncertain as choosing among this many tokens.",
        ),
        (
            "Bits per byte",
            f"{result['bits_per_byte']:.2f}",
            "A loss that can be compared between tokenizers.",
        ),
        (
            "Right at first guess",
            f"{np.mean(np.round(likely, 5) >= best):.0%}",
            "How often the token that the model found likeliest was the one in the text.",
        ),
    ]
    with st.container(horizontal=True, key="inspect-numbers"):
        for label, value, help_text in cells:
            st.metric(label, value, help=help_text, border=True, width=CARD_WIDTH)


def draw_attention(result: dict) -> None:
    """One head's map, and for a model with slots how it looks at these."""
    st.header("Attention")
    st.caption(
        "Each row is a token that looks back at the tokens in the columns; the stronger a cell, "
        f"the more of that token's value it takes. {which(result).capitalize()}."
    )
    looks, slots = unpack(result["looks"]), unpack(result["slots"])
    head = choose_head(result["num_blocks"], len(looks))
    sentence = maps.looked_at(result, looks[head], slots[head])
    st.text(sentence)
    if note := note_on_slots(result, slots):
        st.caption(note)
    left, right = st.columns([3, 2], gap="medium") if slots[head].any() else (st.container(), None)
    with left.container(key="inspect-map"):
        maps.draw_looks(result, looks[head], f"Map of attention. {sentence}")
    if right is not None:
        with right.container(key="inspect-slots"):
            maps.draw_slots(result, slots[head], "Map of the attention to the slots.")


def choose_head(num_blocks: int, num_heads: int) -> int:
    """Draws the choice of block and head; returns the head."""
    block_column, head_column = st.columns(2)
    if num_blocks > 1:
        block_column.select_slider(
            "Block", range(num_blocks), key="inspect.block", format_func=lambda b: str(b + 1)
        )
    if num_heads == 1:
        return 0
    return head_column.select_slider(
        "Head", range(num_heads), key="inspect.head", format_func=lambda h: str(h + 1)
    )


def note_on_slots(result: dict, slots: np.ndarray) -> str | None:
    """What the slots hold, or why nothing; None for a model without any."""
    if not slots.shape[-1]:
        return None
    context_length, chunk_length = result["context_length"], result["chunk_length"]
    if context_length <= 2 * chunk_length:
        return (
            "This model can never use its slots: they hold what is older than two chunks of "
            f"{chunk_length} tokens, and its context is {context_length}. Train one with a context "
            f"above {2 * chunk_length} or with shorter chunks."
        )
    if not slots.any():
        return (
            "The slots are still empty for these tokens: all that precedes them lies within the "
            f"window of one to two chunks of {chunk_length} tokens."
        )
    return (
        "The first map shows the window of exact attention, one to two chunks of "
        f"{chunk_length} tokens; the second the slots, which hold averages of what is older."
    )


def unpack(packed: dict) -> np.ndarray:
    """The array of a JSON object that `keras_lm.generation.inspection.pack` made."""
    data = base64.b64decode(packed["float16"])
    return np.frombuffer(data, "<f2").reshape(packed["shape"])
