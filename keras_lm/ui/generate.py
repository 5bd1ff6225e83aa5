"""The Generate page: a prompt, a model, and the text as it is made."""

import dataclasses
import html
from pathlib import Path

import streamlit as st

from keras_lm.config import GenerationConfig
from keras_lm.ui import inspect
from keras_lm.ui.honesty import tell
from keras_lm.ui.models import (
    BUSY,
    binding,
    choose_model,
    find_worker,
    loading_error,
    name_of,
    open_page,
    text_of,
)
from keras_lm.ui.services import escape_markdown

POLL_SECONDS = 0.2
SHOWN_PROMPT = 400  # characters
MOST_CONTINUATIONS = 4
RANGES = {
    "max_new_tokens": ("Length in tokens", 1, 2_000, 10),
    "temperature": ("Temperature", 0.0, 2.0, 0.05),
    "top_k": ("Top-k", 0, 200, 1),
    "top_p": ("Top-p", 0.0, 1.0, 0.01),
    "min_p": ("Min-p", 0.0, 1.0, 0.01),
    "repetition_penalty": ("Repetition penalty", 1.0, 2.0, 0.05),
}


def page() -> None:
    """Draws the page."""
    st.title("Generate")
    with st.sidebar:
        st.subheader("Settings")
        settings = settings_form()
        count = st.slider(
            "Continuations",
            1,
            MOST_CONTINUATIONS,
            key="generate.count",
            help="Several of the same prompt side by side; each further one has the next seed.",
            persist_state="session",
        )
    model_file = choose_model()
    if model_file is None:
        return
    prompt = st.text_area("Prompt", "The man", key="prompt", height=80, bind=binding("prompt"))
    if st.button("Generate", type="primary", icon=":material/auto_awesome:", key="generate.go"):
        begin(model_file, prompt, settings, count)
    output(model_file)


def settings_form() -> dict:
    """The sampling settings."""
    settings = {}
    for spec in dataclasses.fields(GenerationConfig):
        key, help_text = f"generate.{spec.name}", spec.metadata["help"]
        if spec.name == "seed":
            settings["seed"] = st.number_input(
                "Seed", 0, 2**31 - 1, spec.default, key=key, help=help_text, persist_state="session"
            )
            continue
        label, low, high, step = RANGES[spec.name]
        settings[spec.name] = st.slider(
            label, low, high, spec.default, step, key=key, help=help_text, persist_state="session"
        )
    return settings


def shorten(prompt: str) -> str:
    """The end of a long prompt, which is what the text goes on from."""
    return prompt if len(prompt) <= SHOWN_PROMPT else f"… {prompt[-SHOWN_PROMPT:]}"


def begin(model_file: Path, prompt: str, settings: dict, count: int) -> None:
    """Asks the model's worker; the text is drawn by `output`."""
    cancel_current()
    worker = find_worker(model_file)
    if worker is None:
        st.warning(f"{BUSY}: press Generate again in a moment.", icon=":material/hourglass_top:")
        return
    request_id, reply = worker.generate([prompt] * count, settings)
    st.session_state["generation"] = (model_file, worker, request_id, reply, prompt)


def cancel_current() -> None:
    """Ends what this tab is generating, if anything."""
    if "generation" in st.session_state:
        _, worker, request_id, reply, _ = st.session_state["generation"]
        if not reply.done:
            worker.cancel(request_id)


def output(chosen_file: Path) -> None:
    """The chosen model's text so far, drawn again while more comes."""
    model_file, _, _, reply, _ = st.session_state.get("generation", (None,) * 5)
    if model_file != chosen_file:
        return
    st.fragment(draw_output, run_every=None if reply.done else POLL_SECONDS)(reply.done)


def draw_output(was_done: bool) -> None:
    """Prompt and continuations, with Stop while it runs and its speed after."""
    model_file, worker, _, reply, prompt = st.session_state["generation"]
    done = reply.done
    if error := loading_error(worker, model_file):
        st.error(escape_markdown(error), icon=":material/error:")
        if done and not was_done:
            st.rerun()
        return
    if not done:
        st.button("Stop", icon=":material/stop:", key="generate.stop", on_click=cancel_current)
    with st.container(key="generated"):
        for row, column in enumerate(st.columns(len(reply.texts))):
            with column:
                draw_text(row, prompt, reply.texts[row])
                if done and not reply.error:
                    tell(text_of(model_file), reply.texts[row])
                    whole = prompt + reply.texts[row]
                    if st.button(
                        "Inspect", icon=":material/search:", key=f"generate.inspect.{row}"
                    ):
                        open_page(inspect.page, name_of(model_file), text=whole)
    if not worker.loading.done:
        st.caption("Loading the model into a process of its own; this takes some seconds.")
    elif not done and not any(reply.texts):
        st.caption("Compiling; the text begins in a moment.")
    if reply.error:
        st.error(escape_markdown(reply.error), icon=":material/error:")
    elif done:
        told = f"{sum(map(len, reply.texts)):,} characters in {reply.result['seconds']:.2f} s."
        if unknown := reply.result["unknown"]:
            shown = " ".join(repr(piece) for piece in unknown[:10])
            told += f" Left out of the prompt, the model does not know: {shown}."
        if cut := reply.result["tokens_cut"]:
            told += f" The prompt is longer than the model's context: its first {cut:,} tokens "
            told += "were not read."
        st.caption(escape_markdown(told))
    if done and not was_done:
        st.rerun()


def draw_text(row: int, prompt: str, text: str) -> None:
    """One continuation after its prompt."""
    with st.container(border=True, key=f"generated-{row}"):
        st.html(
            '<p style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0">'
            f"<b>{html.escape(shorten(prompt))}</b>{html.escape(text)}</p>"
        )
