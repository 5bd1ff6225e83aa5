"""Choosing a model, as the pages that use one do."""

from pathlib import Path

import streamlit as st

from keras_lm.config import DataConfig
from keras_lm.model_file import ModelFileError
from keras_lm.runs.supervisor import UPLOADS
from keras_lm.runs.workers import WorkerClient
from keras_lm.ui.services import (
    escape_markdown,
    label_runs,
    runs_with_models,
    supervisor,
    worker_pool,
)

UPLOADED = "uploaded"
BUSY = "Other models are at work, and no more fit beside them"


def choose_model() -> Path | None:
    """The file of a run's model or of one that is handed in; None, which is told, without any.

    The choice is the same on all pages.
    """
    summaries = {summary.run_id: summary for summary in runs_with_models()}
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
    if upload:
        try:
            return supervisor().keep_upload(upload.getvalue(), ".keras")
        except ModelFileError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
            return None
    mend = "hand in a .keras file above, or choose a trained model there"
    if not summaries:
        mend = "train one on the Train page, or hand in a .keras file above"
    st.info(f"There is no model to use: {mend}.", icon=":material/info:")
    return None


def text_of(model_file: Path) -> DataConfig | None:
    """Which text the model was trained on; None when it is not known."""
    if model_file.parent.name == UPLOADS:
        return None
    summary = supervisor().summary(model_file.parent.name)
    return summary.config.data if summary and summary.config else None


def find_worker(model_file: Path) -> WorkerClient | None:
    """The model's worker; None while others are at work. Without its file the page begins anew."""
    try:
        return worker_pool().worker(model_file)
    except FileNotFoundError:  # another tab has deleted the run
        st.rerun()


def loading_error(worker: WorkerClient, model_file: Path) -> str | None:
    """Why the worker cannot use the file, if so."""
    # A file that was handed in has a name of ours, which says nothing to a person.
    error = worker.loading.error
    return error and error.replace(str(model_file.resolve()), "The file")
