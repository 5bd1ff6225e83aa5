"""The Generate page: a prompt, a model, and the text as it is made."""

import dataclasses
import html
from pathlib import Path

import streamlit as st

from keras_lm.config import GenerationConfig
from keras_lm.model_file import ModelFileError
from keras_lm.ui.services import (
    escape_markdown,
    label_runs,
    runs_with_models,
    supervisor,
    worker_pool,
)

POLL_SECONDS = 0.2
SHOWN_PROMPT = 400  # characters
UPLOADED = "uploaded"
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
    summaries = {summary.run_id: summary for summary in runs_with_models()}
    with st.sidebar:
        st.subheader("Settings")
        settings = settings_form()
    model_file = choose_model(summaries)
    if model_file is None:
        mend = "hand in a .keras file above, or choose a trained model there"
        if not summaries:
            mend = "train one on the Train page, or hand in a .keras file above"
        st.info(f"There is no model to use: {mend}.", icon=":material/info:")
        return
    prompt = st.text_area(
        "Prompt", "The man", key="generate.prompt", height=80, persist_state="session"
    )
    if st.button("Generate", type="primary", icon=":material/auto_awesome:", key="generate.go"):
        begin(model_file, prompt, settings)
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


def choose_model(summaries: dict) -> Path | None:
    """The model's file: of a run, or one that is handed in; None when there is none."""
    options, labels = [*summaries, UPLOADED], label_runs([*summaries.values()])
    if st.session_state.get("generate.model") not in options:
        st.session_state["generate.model"] = options[0]
    chosen = st.selectbox(
        "Model",
        options,
        format_func=lambda name: labels.get(name, "Load a .keras file"),
        key="generate.model",
        persist_state="session",
    )
    if chosen != UPLOADED:
        return supervisor().folder(chosen).model_file
    upload = st.file_uploader("A .keras file made here", type=["keras"], key="generate.upload")
    try:
        return supervisor().keep_upload(upload.getvalue(), ".keras") if upload else None
    except ModelFileError as error:
        st.error(escape_markdown(str(error)), icon=":material/error:")
        return None


def shorten(prompt: str) -> str:
    """The end of a long prompt, which is what the text goes on from."""
    return prompt if len(prompt) <= SHOWN_PROMPT else f"… {prompt[-SHOWN_PROMPT:]}"


def begin(model_file: Path, prompt: str, settings: dict) -> None:
    """Asks the model's worker; the text is drawn by `output`."""
    cancel_current()
    worker = worker_pool().worker(model_file)
    request_id, reply = worker.generate(prompt, settings)
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
    """Prompt and continuation, with Stop while it runs and its speed after."""
    model_file, worker, _, reply, prompt = st.session_state["generation"]
    done = reply.done
    if worker.loading.error:
        # A file that was handed in has a name of ours, which says nothing to a person.
        told = worker.loading.error.replace(str(model_file.resolve()), "The file")
        st.error(escape_markdown(told), icon=":material/error:")
        if done and not was_done:
            st.rerun()
        return
    if not done:
        st.button("Stop", icon=":material/stop:", key="generate.stop", on_click=cancel_current)
    with st.container(border=True, key="generated"):
        st.html(
            '<p style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0">'
            f"<b>{html.escape(shorten(prompt))}</b>{html.escape(reply.text)}</p>"
        )
    if not worker.loading.done:
        st.caption("Loading the model into a process of its own; this takes some seconds.")
    elif not done and not reply.text:
        st.caption("Compiling; the text begins in a moment.")
    if reply.error:
        st.error(escape_markdown(reply.error), icon=":material/error:")
    elif done:
        told = f"{len(reply.text):,} characters in {reply.result['seconds']:.2f} s."
        if unknown := reply.result["unknown"]:
            shown = " ".join(repr(piece) for piece in unknown[:10])
            told += f" Left out of the prompt, the model does not know: {shown}."
        if cut := reply.result["tokens_cut"]:
            told += f" The prompt is longer than the model's context: its first {cut:,} tokens "
            told += "were not read."
        st.caption(escape_markdown(told))
    if done and not was_done:
        st.rerun()
