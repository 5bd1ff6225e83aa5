"""What a person notes about a run: a name, a star, a text."""

from typing import Any

import streamlit as st

from keras_lm.presentation.formatting import describe_run, escape_markdown
from keras_lm.runs.supervisor import RunSummary
from keras_lm.storage.records import NAME_LENGTH, NOTE_LENGTH
from keras_lm.ui.services import shown_disk_errors, supervisor

NOTE_HEIGHT = 100  # pixels
NOTES_LOST = "Some notes of this run cannot be read; the run itself is sound."


def edit_notes(summary: RunSummary) -> None:
    """Draws the fields of a run's notes; each is kept as soon as it is changed.

    Args:
        summary: of the run.
    """

    def bound(field: str, empty: Any) -> dict[str, Any]:
        key = f"runs.{field}.{summary.run_id}"
        st.session_state[key] = summary.notes.get(field, empty)
        return {"key": key, "on_change": _keep, "args": (summary.run_id, field, key)}

    if summary.notes_damage:
        st.warning(
            escape_markdown(f"{NOTES_LOST} {summary.notes_damage} What you write replaces them."),
            icon=":material/edit_off:",
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Name",
            max_chars=NAME_LENGTH,
            placeholder=describe_run(summary.trained_config),
            **bound("name", ""),
        )
        st.checkbox("★ Starred", **bound("starred", False))
    st.text_area("Note", max_chars=NOTE_LENGTH, height=NOTE_HEIGHT, **bound("note", ""))


def _keep(run_id: str, field: str, key: str) -> None:
    """Writes what a person has changed."""
    with shown_disk_errors():
        supervisor().folder(run_id).write_notes(**{field: st.session_state[key]})
