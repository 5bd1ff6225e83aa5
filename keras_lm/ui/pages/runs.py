"""The Runs page: all runs in a table; those that are chosen, compared."""

import json
from typing import Any

import streamlit as st

from keras_lm.presentation.formatting import escape_markdown, plural
from keras_lm.presentation.runs_table import (
    as_csv,
    differing_settings,
    overlaid,
    run_row,
    runs_table,
    short_names,
)
from keras_lm.runs.supervisor import RunSummary
from keras_lm.storage.run_folder import ACTIVE_STATES, RunFolder, list_runs
from keras_lm.ui.parts.compared import draw_compared
from keras_lm.ui.services import shown_disk_errors, supervisor

MOST_COMPARED = 6
TABLE_HEIGHT = 420  # pixels
INTRODUCTION = (
    "Every run, newest first. Choose some rows to compare their curves, settings and samples, to "
    "download their numbers, or to delete them."
)


def page() -> None:
    """Draws the page."""
    st.title("Runs", anchor=False)
    rows = [row for _, row in known_runs()]
    if not rows:
        st.info("There is no run yet: start one on the Train page.", icon=":material/info:")
        return
    st.write(INTRODUCTION)
    search = st.text_input("Search", key="runs.search", placeholder="words in name, text, settings")
    table = runs_table(rows, search)
    chosen = choose_rows(table)
    if chosen:
        compare([run_id for run_id in table["Run"].iloc[chosen]])


def known_runs() -> list[tuple[RunSummary, dict[str, Any]]]:
    """All runs with their rows, newest first; an ended run is read again only if it changed."""
    cache = _cache()
    found = []
    for folder in list_runs(supervisor().root):
        signature = _signature(folder)
        known = cache.get(folder.run_id)
        if known is None or known[0] != signature or known[1].state in ACTIVE_STATES:
            summary = supervisor().summary(folder.run_id)
            if summary is None:
                continue
            known = (signature, summary, run_row(summary, folder.read_events()[0]))
            cache[folder.run_id] = known
        found.append(known[1:])
    return found


@st.cache_resource
def _cache() -> dict[str, tuple]:
    return {}


def _signature(folder: RunFolder) -> tuple:
    """What changes when a run does."""
    found = []
    for file in (folder.status_file, folder.events_file, folder.config_file):
        try:
            stat = file.stat()
            found.append((stat.st_mtime_ns, stat.st_size))
        except OSError:
            found.append(None)
    return tuple(found)


def choose_rows(table) -> list[int]:
    """Draws the table; returns the positions of the chosen rows."""
    number = st.column_config.NumberColumn
    event = st.dataframe(
        table,
        hide_index=True,
        height=min(TABLE_HEIGHT, 38 * (len(table) + 1)),
        on_select="rerun",
        selection_mode="multi-row",
        key="runs.table",
        column_config={
            "Curve": st.column_config.LineChartColumn(width="small"),
            "Best val. loss": number(format="%.3f"),
            "Last val. loss": number(format="%.3f"),
            "Bits per byte": number(format="%.3f"),
            "Tokens per second": number(format="localized"),
            "Seconds": number(format="%.0f"),
            "Memory, MB": number(format="%.0f"),
        },
    )
    return [position for position in event.selection.rows if position < len(table)]


def compare(run_ids: list[str]) -> None:
    """The chosen runs: what can be done with them, and how they differ."""
    found = [(supervisor().folder(run_id), supervisor().summary(run_id)) for run_id in run_ids]
    known = [(folder, summary) for folder, summary in found if summary is not None]
    names = short_names([summary for _, summary in known])
    events = {name: folder.read_events()[0] for name, (folder, _) in zip(names, known, strict=True)}
    st.header(plural(len(known), "chosen run"), anchor=False)
    with st.container(horizontal=True):
        lines = "".join(
            json.dumps({"run": name} | event) + "\n" for name in events for event in events[name]
        )
        st.download_button("CSV", as_csv(events), "runs.csv", "text/csv", icon=":material/table:")
        st.download_button("JSON lines", lines, "runs.jsonl", icon=":material/data_object:")
        if st.button("Delete", icon=":material/delete:", key="runs.delete", type="tertiary"):
            confirm_deletion(run_ids)
    if len(known) > MOST_COMPARED:
        st.caption(f"The first {MOST_COMPARED} are compared.")
    names = names[:MOST_COMPARED]
    compared = {name: events[name] for name in names}
    draw_compared(names, lambda measure: overlaid(compared, measure), "runs")
    configs = {
        name: summary.config
        for name, (_, summary) in zip(names, known, strict=False)
        if summary.config is not None
    }
    settings = differing_settings(configs)
    st.subheader("Settings that differ", anchor=False)
    if settings.empty:
        st.caption("None.")
    else:
        st.table(settings)
    draw_samples(compared)


def draw_samples(events: dict[str, list]) -> None:
    """The last sample of each run, side by side."""
    samples = {
        name: next((event for event in reversed(found) if event["kind"] == "sample"), None)
        for name, found in events.items()
    }
    st.subheader("Last samples", anchor=False)
    for column, (name, sample) in zip(st.columns(len(samples)), samples.items(), strict=True):
        with column:
            st.caption(escape_markdown(name))
            text = f"{sample['prompt']}{sample['text']}" if sample else "No sample."
            st.code(text, language=None, wrap_lines=True)


@st.dialog("Delete these runs?")
def confirm_deletion(run_ids: list[str]) -> None:
    """Asks before several runs are removed."""
    st.write(
        f"The curves, samples and models of {plural(len(run_ids), 'run')} are removed for good."
    )
    confirmed, cancelled = st.columns(2)
    if cancelled.button("Cancel", width="stretch"):
        st.rerun()
    if confirmed.button("Delete them", type="primary", width="stretch"):
        with shown_disk_errors():
            for run_id in run_ids:
                supervisor().delete(run_id)
            st.rerun()
