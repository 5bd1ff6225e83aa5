"""What can be done with a run: stop, try, download, resume, duplicate, delete."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from keras_lm.presentation.formatting import ROW_HEIGHT, escape_markdown, label_runs
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.data_config import DataConfig
from keras_lm.settings.longer import Longer
from keras_lm.settings.training_config import MOST_STEPS, MULTI_WORKER
from keras_lm.storage import run_folder
from keras_lm.ui.parts.draft import draft, draft_of, draft_that_teaches, keep
from keras_lm.ui.parts.exports import choose_format
from keras_lm.ui.parts.models import open_page
from keras_lm.ui.parts.waiting import front_button
from keras_lm.ui.services import shown_disk_errors, supervisor

MOST_OFFERED = 1_000  # steps that a longer training begins with in the form


def buttons(summary: RunSummary) -> None:
    """Stop while it is active; after that the model first and Delete last."""
    row = st.container(
        horizontal=True, gap="xsmall", height=ROW_HEIGHT, border=False, key="run-buttons"
    )
    below = st.container()  # for a sentence, which the row would cut off
    with row:
        if summary.is_active:
            stop_button(summary, below)
            front_button(summary, below)
            return
        model_buttons(summary)
        if summary.state != run_folder.FINISHED:
            resume_button(summary, below)
        longer_button(summary)
        if (config := summary.trained_config) is not None and st.button(
            "Duplicate",
            icon=":material/content_copy:",
            key="duplicate",
            width=113,
            help="Opens a new run with the same settings, for you to change and start.",
        ):
            with shown_disk_errors(below):
                keep(*draft_of(config))
                st.session_state["duplicated"] = draft() if gives_the_same(summary) else None
                st.query_params["run"] = "new"
                st.rerun()
        if st.button("Delete", icon=":material/delete:", key="delete", type="tertiary"):
            confirm_deletion(summary.run_id)


def gives_the_same(summary: RunSummary) -> bool:
    """Whether a run with these settings, as the form takes them, gives the same model again.

    Not where it was ended early or trained longer, or the model that it went on with may be another
    one by now.
    """
    config, is_whole = summary.config, summary.state == run_folder.FINISHED
    if config is None or config != summary.trained_config or not is_whole:
        return False
    if has_workers(summary) or config.data.init_from:
        return False
    return config.data.cut == DataConfig.cut


def stop_button(summary: RunSummary, below: DeltaGenerator) -> None:
    """Asks the run to end after the present step; `below` is where it says why it cannot."""
    stopping = supervisor().folder(summary.run_id).control_file.exists()
    if st.button(
        "Stopping" if stopping else "Stop",
        icon=":material/stop:",
        disabled=stopping,
        key="stop",
        help="Ends the run after the present step and keeps the model.",
    ):
        with shown_disk_errors(below):
            supervisor().request(summary.run_id, "stop")
            st.rerun()  # the whole page: from now on it looks often


def model_buttons(summary: RunSummary) -> None:
    """What can be done with the model, if there is one."""
    folder = supervisor().folder(summary.run_id)
    if not folder.has_model:
        return
    if st.button(
        "Try this model", type="primary", icon=":material/edit_note:", key="try", width=140
    ):
        open_page("generate", summary.run_id)
    st.download_button(
        "Download .keras",
        folder.offered_model.read_bytes,
        f"keras_lm-{summary.run_id}.keras",
        "application/octet-stream",
        icon=":material/download:",
        key="download",
        width=155,
        on_click="ignore",
    )
    if st.button(
        "More formats",
        icon=":material/expand_more:",
        key="formats",
        width=44,  # style.css hides its words, for which the row has no room
        help="More formats: for the browser, ONNX Runtime, telephones, NumPy and others.",
    ):
        choose_format(summary.run_id)


def resume_button(summary: RunSummary, below: DeltaGenerator) -> None:
    """Lets a run that ended early go on, in the queue; `below` is where it says why it cannot."""
    has_checkpoint = supervisor().folder(summary.run_id).has_checkpoint
    help = "It has no checkpoint to resume from."
    if has_checkpoint:
        help = "Goes on from its newest checkpoint to the end that was planned."
    if has_workers(summary):
        help = "Several workers trained it: start the command resume on each of them."
    if st.button(
        "Resume" if has_checkpoint else "Start again",
        icon=":material/resume:",
        key="resume",
        width=120,
        disabled=has_workers(summary),
        help=help,
    ):
        with shown_disk_errors(below):
            supervisor().resume(summary.run_id)
            st.rerun()


def has_workers(summary: RunSummary) -> bool:
    """Whether the run is one of several processes, of which the page could start only one."""
    return summary.config is not None and summary.config.training.strategy == MULTI_WORKER


def longer_button(summary: RunSummary) -> None:
    """Lets a run that has ended be trained longer than was planned."""
    has_checkpoint = supervisor().folder(summary.run_id).has_checkpoint
    if not has_checkpoint or summary.config is None or has_workers(summary):
        return
    if st.button(
        "Train longer",
        icon=":material/more_time:",
        key="longer",
        width=128,
        help="Adds steps or seconds, with a new schedule of the learning rate, or teaches the "
        "model another text.",
    ):
        ask_how_long(summary.run_id, summary.status.get("step", 0))


@st.dialog("Train longer")
def ask_how_long(run_id: str, steps: int) -> None:
    """Asks for more steps or seconds, and puts the run into the queue.

    Args:
        run_id: of the run.
        steps: that it has made; half of them is what is offered.
    """
    st.write(
        "The run goes on from its last step. Its learning rate rises to its peak once more and "
        "falls to the new end."
    )
    unit = st.pills("More", ["Steps", "Seconds"], default="Steps", required=True, key="longer.unit")
    offered = min(MOST_OFFERED, max(10, steps // 2)) if unit == "Steps" else 60
    more = st.number_input(f"{unit} more", 1, MOST_STEPS, offered, key=f"longer.{unit}")
    if st.button("Train", type="primary", width="stretch", key="longer.train"):
        with shown_disk_errors():
            longer = Longer(steps=more) if unit == "Steps" else Longer(seconds=more)
            supervisor().resume(run_id, longer)
            st.rerun()
    summary = supervisor().summary(run_id)
    if summary is None or summary.config is None or not supervisor().folder(run_id).has_model:
        return
    if st.button(
        "Teach it more",
        icon=":material/school:",
        width="stretch",
        key="longer.teach",
        help="Opens a new run that goes on with this model on another text.",
    ):
        keep(draft_that_teaches(run_id, summary.config))
        st.query_params["run"] = "new"
        st.rerun()


@st.dialog("Delete this run?")
def confirm_deletion(run_id: str) -> None:
    """Asks before a run's folder is removed."""
    summary = supervisor().summary(run_id)
    st.write("Its curves, samples and model are removed for good:")
    name = escape_markdown(label_runs([summary])[run_id]) if summary else "It is gone already."
    st.write(f"**{name}**")
    with shown_disk_errors():
        if others := escape_markdown(", ".join(supervisor().folder(run_id).other_names())):
            st.write(f"Not made by this program, so they stay: {others}.")
    confirmed, cancelled = st.columns(2)
    if cancelled.button("Cancel", width="stretch"):
        st.rerun()
    if confirmed.button("Delete it", type="primary", width="stretch"):
        with shown_disk_errors():
            supervisor().delete(run_id)
            st.query_params["run"] = "new"
            st.rerun()
