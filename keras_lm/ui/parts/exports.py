"""The menu of the formats that a model can be downloaded in."""

import streamlit as st

from keras_lm.presentation.formatting import escape_markdown
from keras_lm.settings.formats import FORMATS
from keras_lm.storage.run_folder import RunFolder
from keras_lm.ui.services import exports, shown_disk_errors, supervisor

POLL_SECONDS = 1.0
HEIGHT, MEASURED_HEIGHT = 96, 168  # pixels; the second has room for what it costs
OFFERED = [name for name, entry in FORMATS.items() if entry.code]  # .keras has a button of its own


@st.dialog("Download as ...")
def choose_format(run_id: str) -> None:
    """Asks for a format, and offers the file when a process of its own has written it.

    Args:
        run_id: of the run.
    """
    name = st.selectbox(
        "Format", OFFERED, format_func=lambda name: FORMATS[name].label, key="format"
    )
    st.write(
        f"{FORMATS[name].label} {FORMATS[name].sentence} You get a zip file, whose README.md says "
        "how the model was made and is used."
    )
    st.fragment(offer, run_every=POLL_SECONDS)(run_id, name)


def offer(run_id: str, name: str) -> None:
    """The file, or how far it is, or what makes it."""
    folder = supervisor().folder(run_id)
    progress = exports().progress(folder, name)
    height = MEASURED_HEIGHT if FORMATS[name].measures else HEIGHT
    with st.container(height=height, border=False, key="export-progress"):
        if progress.part is not None:
            st.progress(progress.part, text=escape_markdown(progress.message))
            return
        if progress.message and not progress.file:
            st.error(escape_markdown(progress.message))
        if progress.file:
            if progress.message:
                st.caption(escape_markdown(progress.message))
            st.download_button(
                f"Download {FORMATS[name].label}",
                progress.file.read_bytes,
                f"keras_lm-{run_id}-{name}.zip",
                "application/zip",
                icon=":material/download:",
                type="primary",
                key="export-file",
                on_click="ignore",
                width="stretch",
            )
        else:
            st.button(
                f"Make the {FORMATS[name].label} file",
                icon=":material/build:",
                key="export-start",
                on_click=start,
                args=(folder, name),
                width="stretch",
            )


def start(folder: RunFolder, name: str) -> None:
    """Begins to make the file."""
    with shown_disk_errors():
        exports().start(folder, name)
