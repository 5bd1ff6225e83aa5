"""The queue on the page: which runs wait, for how long, and what can be done about it."""

import time

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from keras_lm.presentation.formatting import escape_markdown, label_runs, plural, show_seconds
from keras_lm.runs.expected_wait import expected_waits, in_order
from keras_lm.runs.queue import Position, ahead_of, enqueued, position, slots_for
from keras_lm.runs.ray_queue import ray_address
from keras_lm.runs.supervisor import RunSummary
from keras_lm.storage.run_folder import QUEUED
from keras_lm.ui.services import machine_speed, owner, shown_disk_errors, supervisor

REFRESH_SECONDS = 2.5
BUTTON_WIDTH = 140  # pixels: four in a row on a laptop, two on a telephone
ANSWER_SECONDS = 1.5  # a run that waits hears within half a second
BUTTONS = {
    "front": ("To the front", ":material/vertical_align_top:", "Before all others that wait."),
    "up": ("Up", ":material/arrow_upward:", "Before the one before it."),
    "down": ("Down", ":material/arrow_downward:", "Behind the one behind it."),
    "stop": ("Take out", ":material/close:", "It does not start; it can be resumed later."),
}


def _active() -> dict[str, dict]:
    """The statuses of all runs that wait or train, by id."""
    found = supervisor().summaries()
    return {run.run_id: {**run.status, "state": run.state} for run in found if run.is_active}


def _slots(run_ids: list[str]) -> int:
    return slots_for(supervisor().folder(run_id) for run_id in run_ids)


def _earlier(own: Position, active: dict[str, dict]) -> int:
    """How many runs must end before the one at that position begins; on a cluster, must begin."""
    ahead = ahead_of(own, active)
    if ray_address():
        return sum(active[run_id]["state"] == QUEUED for run_id in ahead)
    return max(0, len(ahead) - _slots(ahead) + 1)


def runs_before_a_new_one() -> int:
    """How many runs must end before one that this tab starts now would begin."""
    active = _active()
    return _earlier(position("~", enqueued(active, owner())), active)


def waits() -> dict[str, float | None]:
    """Seconds until each waiting run begins; None where that is not known; none on a cluster."""
    if ray_address():
        return {}
    runs = supervisor().summaries()
    slots = _slots([run.run_id for run in runs if run.is_active])
    return expected_waits(runs, slots, machine_speed())


def begins(seconds: float | None) -> str:
    """When a run begins, as a phrase behind a comma; "" where that is not known."""
    return "" if seconds is None else f", in about {show_seconds(seconds)}"


def waiting_in_words(summary: RunSummary) -> list[str]:
    """Of a run that is queued, its position and when it begins."""
    earlier = _earlier(position(summary.run_id, summary.status), _active())
    if not earlier:
        if ray_address() and (message := summary.status.get("message")):
            return [escape_markdown(message)]
        return ["Starting a process of its own for this run."]
    return [
        f"Position {earlier + 1} in the queue",
        f"starts by itself after {plural(earlier, 'earlier run')}"
        f"{begins(waits().get(summary.run_id))}",
    ]


def front_button(summary: RunSummary, below: DeltaGenerator) -> None:
    """Lets a run pass the others that wait; nothing for the next one."""
    runs = in_order(supervisor().summaries())
    if summary.state != QUEUED or not runs or runs[0].run_id == summary.run_id:
        return
    label, icon, words = BUTTONS["front"]
    if st.button(label, icon=icon, help=words, key="front", width=BUTTON_WIDTH):
        with shown_disk_errors(below):
            _ask(summary.run_id, "front")
            st.rerun()


def queue_of_runs() -> None:
    """All runs that wait, in their order; nothing while there is none."""
    if in_order(supervisor().summaries()):
        st.fragment(_draw_queue, run_every=REFRESH_SECONDS)()


def _draw_queue() -> None:
    """One run is chosen, and moved or taken out."""
    found = supervisor().summaries()
    runs, names, expected = in_order(found), label_runs(found), waits()
    labels = {
        run.run_id: f"{number}. {names[run.run_id]}{begins(expected.get(run.run_id))}"
        for number, run in enumerate(runs, 1)
    }
    with st.container(border=True, gap="small", key="queue"):
        chosen = st.selectbox(
            f"Queue: {plural(len(runs), 'run')} {'waits' if len(runs) == 1 else 'wait'}",
            [*labels],
            format_func=lambda run_id: labels.get(run_id, str(run_id)),
            placeholder="No run waits any more",
            key="queue.chosen",
            help="In the order in which they start. Tabs and races take turns.",
        )
        with st.container(horizontal=True, gap="small"):
            for request, (label, icon, words) in BUTTONS.items():
                clicked = st.button(
                    label,
                    icon=icon,
                    help=words,
                    key=f"queue.{request}",
                    width=BUTTON_WIDTH,
                    disabled=chosen is None,
                )
                if clicked and chosen is not None:
                    with shown_disk_errors():
                        _ask(chosen, request)
                        st.rerun()


def _ask(run_id: str, request: str) -> None:
    """Asks a run that waits, and gives it time to answer."""
    supervisor().request(run_id, request)
    end = time.monotonic() + ANSWER_SECONDS
    while supervisor().folder(run_id).control_file.exists() and time.monotonic() < end:
        time.sleep(0.05)
