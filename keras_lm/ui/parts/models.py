"""Which model a page uses: it is named in the address, and the same on all pages.

The query parameter `model` is a run's id, `before-` with the id of a run that taught a model, for
that model as it was before, or `upload-` with the name of the kept file. Nothing else reads or
writes it.
"""

from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import quote

import streamlit as st

from keras_lm.keras_file.opening import ModelFileError
from keras_lm.presentation.formatting import escape_markdown, label_runs
from keras_lm.runs.supervisor import UPLOADS
from keras_lm.runs.workers import WorkerClient
from keras_lm.settings.config import ConfigError, DataConfig
from keras_lm.storage.run_folder import RunFolder
from keras_lm.ui.services import runs_with_models, shown_disk_errors, supervisor, worker_pool

PAGES = "pages"  # in the session: the pages by their names
MODEL = "model"  # the query parameter
UPLOAD_NEW = "upload"  # the choice that asks for a file
KEPT = "upload-"
BEFORE = "before-"  # with a run's id: the model that this run went on with
UPLOAD_TITLES = "upload.titles"  # in the session: by name, what the person's file was called
BUSY = "Other models are at work, and no more fit beside them"
LONGEST_IN_ADDRESS = 8_000  # bytes; servers refuse a request line of more than 64 kB


def choose_model() -> Path | None:
    """Draws the choice of a model; returns its file, or None after a sentence that says why."""
    labels = label_runs(runs_with_models())
    chosen = _looked_at() or next(iter(labels), UPLOAD_NEW)
    model_file = find_model_file(chosen)
    if chosen.startswith((KEPT, BEFORE)) and model_file:
        labels[chosen] = label_of(chosen)
    labels[UPLOAD_NEW] = "Upload a .keras file"
    st.session_state["model.choice"] = chosen if chosen in labels else None
    st.selectbox(
        "Model",
        [*labels],
        format_func=lambda name: labels.get(name) or name,
        key="model.choice",
        placeholder="Choose a model",
        on_change=lambda: look_at(st.session_state["model.choice"]),
    )
    if chosen == UPLOAD_NEW:
        upload_model(has_others=len(labels) > 1)
    elif model_file is None:
        st.warning(
            f"There is no model {escape_markdown(f'{chosen!r:.40}')} to use: choose another one "
            "above.",
            icon=":material/search_off:",
        )
    else:
        look_at(chosen)  # so that a reload finds it again
    return model_file


def upload_model(has_others: bool) -> None:
    """Asks for a `.keras` file; one that is sound becomes the model that is looked at."""
    upload = st.file_uploader("A .keras file made here", type=["keras"], key="model.upload")
    if upload is None:
        fix = "Upload a .keras file, or choose a trained model above."
        if not has_others:
            fix = "Train a model on the Train page, or upload a .keras file."
        st.info(fix, icon=":material/info:")
        return
    with shown_disk_errors():
        try:
            name = name_of(supervisor().keep_upload(upload.getvalue(), ".keras"))
        except ModelFileError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
            return
        st.session_state.setdefault(UPLOAD_TITLES, {})[name] = upload.name
        look_at(name)
        st.rerun()


def name_of(model_file: Path) -> str:
    """What stands for a model in the address."""
    if model_file.parent.name == UPLOADS:
        return KEPT + model_file.stem
    run_id = model_file.parent.name
    is_before = model_file == RunFolder(model_file.parent).initial_model
    return BEFORE + run_id if is_before else run_id


def label_of(name: str) -> str:
    """What a person reads for the model that the address names so."""
    if name.startswith(KEPT):
        titles = st.session_state.get(UPLOAD_TITLES, {})
        return titles.get(name, f"Uploaded model {name.removeprefix(KEPT)[:8]}")
    run_id = name.removeprefix(BEFORE)
    summary = supervisor().summary(run_id)
    label = label_runs([summary])[run_id] if summary else run_id
    return f"{label}, before it was taught" if name.startswith(BEFORE) else label


def model_before(model_file: Path) -> Path | None:
    """The model that the one in this file was before its run taught it; None when it is fresh."""
    initial = RunFolder(model_file.parent).initial_model
    return initial if initial.is_file() and initial != model_file else None


def find_model_file(name: str) -> Path | None:
    """The file of the model that the address names so; None when there is none."""
    if name.startswith(KEPT):
        return supervisor().kept_upload(name.removeprefix(KEPT), ".keras")
    try:
        folder = supervisor().folder(name.removeprefix(BEFORE))
    except ConfigError:
        return None
    if name.startswith(BEFORE):
        return folder.initial_model if folder.initial_model.is_file() else None
    return folder.offered_model if folder.has_model else None


def _looked_at() -> str | None:
    return st.query_params.get(MODEL) or st.session_state.get(MODEL)


def look_at(name: str) -> None:
    """Puts the model into the address, for a reload, and into the session, for other pages."""
    st.session_state[MODEL] = name
    if st.query_params.get(MODEL) != name:
        st.query_params[MODEL] = name


def open_page(page: str, model: str, **parameters: str) -> NoReturn:
    """Switches to a page of models.

    Args:
        page: "generate" or "inspect".
        model: a run's id, or what `name_of` gives.
        **parameters: further query parameters, which are the keys of the page's widgets.
    """
    st.session_state.update(parameters)  # a widget ignores a parameter that is its default
    st.switch_page(
        st.session_state[PAGES][page],
        query_params={MODEL: model} | {key: text for key, text in parameters.items() if fits(text)},
    )


def fits(text: str) -> bool:
    """Whether a text is short enough for the address."""
    return len(quote(text)) <= LONGEST_IN_ADDRESS


def binding(key: str) -> Literal["query-params"] | None:
    """`bind` of the text widget with that key: to the address, unless its text is too long."""
    return "query-params" if fits(st.session_state.get(key) or "") else None


def text_of(model_file: Path) -> DataConfig | None:
    """Which text the model was trained on; None when it is not known."""
    if name_of(model_file).startswith((KEPT, BEFORE)):
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
    # An uploaded file has a name of ours, which means nothing to a person.
    error = worker.loading.error
    return error and error.replace(str(model_file.resolve()), "The file")
