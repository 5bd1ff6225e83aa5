"""The Runs page: all runs in a table; those that are chosen, named, compared, deleted."""

import threading
import time
from typing import Any

import pandas as pd
import streamlit as st

from keras_lm.presentation.formatting import TABLE_ROW, escape_markdown, label_runs, plural
from keras_lm.presentation.runs_table import (
    CURVE_POINTS,
    DRAWN_POINTS,
    as_csv,
    as_lines,
    differing_settings,
    filters,
    last_samples,
    overlaid,
    run_row,
    runs_table,
    short_names,
)
from keras_lm.runs.supervisor import RunSummary, Supervisor
from keras_lm.storage.run_folder import RunFolder
from keras_lm.ui.parts.compared import draw_compared
from keras_lm.ui.parts.notes import edit_notes
from keras_lm.ui.parts.waiting import queue_of_runs
from keras_lm.ui.services import shown_disk_errors, supervisor

MOST_COMPARED = 6
MOST_NAMED = 10  # of the runs that are to be deleted
TABLE_HEIGHT, FILTER_WIDTH = 420, 160  # pixels
TABLE = "runs.table"
SHOWN = "runs.shown"  # in the session: the ids of the table's rows, as the browser has them
# By run: its row, and before that of which summary and files.
Rows = dict[str, tuple[tuple[RunSummary, tuple], dict[str, Any]]]
INTRODUCTION = (
    "Every run, newest first. Choose one row to name and star that run, or several to compare "
    "their curves, settings and samples, to download their numbers, or to delete them."
)


def page() -> None:
    """Draws the page."""
    st.title("Runs", anchor=False)
    rows = known_rows(supervisor(), _cache())
    if not rows:
        st.info("There is no run yet: start one on the Train page.", icon=":material/info:")
        return
    st.write(INTRODUCTION)
    queue_of_runs()
    with st.container(horizontal=True):
        search = st.text_input(
            "Search", key="runs.search", placeholder="words in name, text, settings, note"
        )
        only = st.selectbox("Show", filters(rows), key="runs.only", width=FILTER_WIDTH)
    table = runs_table(rows, search, only)
    if chosen := choose_runs(table):
        compare(chosen)


def known_rows(runs: Supervisor, cache: Rows) -> list[dict[str, Any]]:
    """The rows of all runs, newest first."""
    return [known_row(runs, summary, cache) for summary in runs.summaries()]


def known_row(runs: Supervisor, summary: RunSummary, cache: Rows) -> dict[str, Any]:
    """The row of one run; its events are read again only if it changed."""
    folder = runs.folder(summary.run_id)
    now = (summary, folder.signature())
    known = cache.get(summary.run_id)
    if known is None or known[0] != now:
        events = folder.read_thinned(CURVE_POINTS // 2)  # beside those that validate
        known = cache[summary.run_id] = (now, run_row(summary, events))
    return known[1]


@st.cache_resource
def _cache() -> Rows:
    return {}


@st.cache_resource(show_spinner=False)
def read_ahead() -> None:
    """Reads all runs, once per server and beside it: the first look at many need not wait."""
    threading.Thread(target=read_slowly, args=(supervisor(), _cache()), daemon=True).start()


def read_slowly(runs: Supervisor, cache: Rows) -> None:
    """Reads the rows of all runs; at least half of the time is left to the pages."""
    for summary in runs.summaries():
        begin = time.monotonic()
        known_row(runs, summary, cache)
        time.sleep(time.monotonic() - begin)


def choose_runs(table: pd.DataFrame) -> list[str]:
    """Draws the table; returns the ids of the chosen runs, which stay chosen when rows move."""
    ids = table["Run"].tolist()
    before = st.session_state.get(SHOWN, ids)
    selection = st.session_state.get(TABLE, {}).get("selection", {})
    chosen = [before[row] for row in selection.get("rows", []) if row < len(before)]
    chosen = [run_id for run_id in chosen if run_id in ids]
    if before != ids:
        st.session_state[TABLE] = {"selection": {"rows": [ids.index(run) for run in chosen]}}
    st.session_state[SHOWN] = ids
    number = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        height=min(TABLE_HEIGHT, TABLE_ROW * (len(table) + 1) + 3),
        on_select="rerun",
        selection_mode="multi-row",
        key=TABLE,
        column_config={
            "Name": st.column_config.TextColumn(width="medium"),
            "Settings": st.column_config.TextColumn(width="medium"),
            "Curve": st.column_config.LineChartColumn(width="small"),
            "Best val. loss": number(format="%.3f"),
            "Last val. loss": number(format="%.3f"),
            "Bits per byte": number(format="%.3f"),
            "Tokens per second": number(format="localized"),
            "Seconds": number(format="%.0f"),
            "Memory, MB": number(format="%.0f"),
        },
    )
    return chosen


def compare(run_ids: list[str]) -> None:
    """The chosen runs: what can be done with them, and how they differ."""
    found = [(supervisor().folder(run_id), supervisor().summary(run_id)) for run_id in run_ids]
    known = [(folder, summary) for folder, summary in found if summary is not None]
    names = short_names([summary for _, summary in known])
    folders = {name: folder for name, (folder, _) in zip(names, known, strict=True)}
    st.header(plural(len(known), "chosen run"), anchor=False)
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            lambda: as_csv(read_all(folders)),
            "runs.csv",
            "text/csv",
            icon=":material/table:",
            on_click="ignore",
        )
        st.download_button(
            "JSON lines",
            lambda: as_lines(read_all(folders)),
            "runs.jsonl",
            icon=":material/data_object:",
            on_click="ignore",
        )
        if st.button("Delete", icon=":material/delete:", key="runs.delete", type="tertiary"):
            confirm_deletion(run_ids)
    if len(known) == 1:
        edit_notes(known[0][1])
    if len(known) > MOST_COMPARED:
        st.caption(f"The first {MOST_COMPARED} are compared.")
    names = names[:MOST_COMPARED]
    compared = {name: folders[name].read_thinned(DRAWN_POINTS) for name in names}
    draw_compared(names, lambda measure: overlaid(compared, measure), "runs")
    configs = {
        name: config
        for name, (_, summary) in zip(names, known, strict=False)
        if (config := summary.trained_config) is not None
    }
    if len(known) > 1:
        draw_settings(differing_settings(configs))
    draw_samples(compared)


def read_all(folders: dict[str, RunFolder]) -> dict[str, list[dict]]:
    """All events of some runs, by their names."""
    return {name: folder.read_events()[0] for name, folder in folders.items()}


def draw_settings(differing: pd.DataFrame) -> None:
    """The settings in which the runs differ."""
    st.subheader("Settings that differ", anchor=False)
    if differing.empty:
        st.caption("None.")
    else:
        st.table(differing)


def draw_samples(events: dict[str, list]) -> None:
    """The last sample of each run side by side, of one prompt where that is possible."""
    prompt, samples = last_samples(events)
    st.subheader("Last samples", anchor=False)
    if len(samples) > 1 and any(samples.values()):
        st.caption(
            "These runs have no prompt in common: each shows its own."
            if prompt is None
            else f"All for the prompt {escape_markdown(repr(prompt))}."
        )
    for column, (name, sample) in zip(st.columns(len(samples)), samples.items(), strict=True):
        with column:
            step = f" · step {sample['step']:,}" if sample else ""
            st.caption(f"{escape_markdown(name)}{step}")
            text = f"{sample['prompt']}{sample['text']}" if sample else "No sample."
            st.code(text, language=None, wrap_lines=True)


@st.dialog("Delete these runs?")
def confirm_deletion(run_ids: list[str]) -> None:
    """Asks before several runs are removed."""
    found = [summary for run_id in run_ids if (summary := supervisor().summary(run_id))]
    ended = [summary for summary in found if not summary.is_active]
    labels = label_runs(ended)
    st.write(
        f"The curves, samples, notes and models of {plural(len(ended), 'run')} are removed for "
        "good:"
    )
    names = [f"- {escape_markdown(label)}" for label in labels.values()]
    more = [f"- {len(names) - MOST_NAMED} more"] * (len(names) > MOST_NAMED)
    st.markdown("\n".join([*names[:MOST_NAMED], *more]))
    if active := len(found) - len(ended):
        st.write(f"{plural(active, 'active run')} cannot be deleted: stop that first.")
    confirmed, cancelled = st.columns(2)
    if cancelled.button("Cancel", width="stretch"):
        st.rerun()
    if confirmed.button("Delete them", type="primary", width="stretch", disabled=not ended):
        with shown_disk_errors():
            for run_id in labels:
                supervisor().delete(run_id)
            st.rerun()
