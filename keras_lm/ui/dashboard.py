"""One run as it is now: state, progress, curves, samples, log; drawn again while it is active."""

import dataclasses
import gc
import math
import os

import pandas as pd
import streamlit as st

from keras_lm import run_folder
from keras_lm.config import RunConfig
from keras_lm.run_folder import RunFolder
from keras_lm.runs.supervisor import RunSummary
from keras_lm.ui import charts, generate
from keras_lm.ui.honesty import tell
from keras_lm.ui.models import open_page
from keras_lm.ui.services import (
    describe_run,
    escape_markdown,
    label_runs,
    show_seconds,
    supervisor,
    told_disk_errors,
)

# Each refresh takes server and browser some tenths of a second of a processor, which the run may
# need; until the first point there is little to draw.
WAITING_SECONDS, HEAD_SECONDS, CURVES_SECONDS = 1.0, 2.5, 5.0
LONG_RUN_SECONDS, LONG_RUN_CALM = 180.0, 2.0  # who waits for minutes need not see every second
# Fading and sliding at every refresh takes a browser a third more of the processor than the change.
STILL = "<style>.stMain * {transition: none !important}</style>"
SPARKLINE_POINTS = 40
CARD_WIDTH = 118  # pixels: seven in a row on a laptop, three on a telephone
STATES = {
    run_folder.QUEUED: ("Waiting", "gray", ":material/hourglass_empty:"),
    run_folder.PREPARING: ("Preparing", "blue", ":material/settings:"),
    run_folder.TRAINING: ("Training", "blue", ":material/model_training:"),
    run_folder.PAUSED: ("Paused", "orange", ":material/pause:"),
    run_folder.FINISHED: ("Finished", "green", ":material/check_circle:"),
    run_folder.STOPPED: ("Stopped", "orange", ":material/stop_circle:"),
    run_folder.FAILED: ("Failed", "red", ":material/error:"),
    run_folder.INTERRUPTED: ("Interrupted", "red", ":material/power_off:"),
}
# Tab: the columns with their curves' names, the axis' title, whether it is logarithmic.
CURVES = {
    "Perplexity": ({"perplexity": "train", "val_perplexity": "validation"}, "perplexity", True),
    "Learning rate": ({"learning_rate": "learning rate"}, "learning rate", False),
    "Gradient": ({"grad_norm": "gradient norm"}, "gradient norm", False),
    "Speed": ({"tokens_per_second": "tokens a second"}, "tokens a second", False),
}
HINTS = {
    run_folder.QUEUED: "Another run is training; this one begins by itself when its turn comes.",
    run_folder.PREPARING: "The first step is being compiled for this machine, which takes some "
    "seconds; after that every step is fast.",
    run_folder.TRAINING: "The first point of the curve comes in a moment.",
}


# Streamlit collects garbage after every refresh. Nothing of what is loaded by now ever becomes
# garbage, and not looking through it spares two thirds of a refresh.
gc.freeze()


def dashboard(summary: RunSummary) -> None:
    """Draws the run; while it is active, the head often and the curves now and then."""
    run_id, events = summary.run_id, read_events(supervisor().folder(summary.run_id))
    has_curve = any(event["kind"] == "metrics" for event in events)
    often = now_and_then = None
    if summary.is_active:
        left = seconds_left(summary.status, events)
        calm = 1.0 if left is None or left < LONG_RUN_SECONDS else LONG_RUN_CALM
        often, now_and_then = calm * HEAD_SECONDS, calm * CURVES_SECONDS
        if not has_curve or supervisor().folder(run_id).control_file.exists():
            often = now_and_then = WAITING_SECONDS
        st.html(STILL)
    st.fragment(draw_head, run_every=often)(run_id, summary.is_active)
    st.fragment(draw_body, run_every=now_and_then)(run_id, has_curve)


def draw_head(run_id: str, was_active: bool) -> None:
    """State, progress and buttons from the run's folder."""
    summary = supervisor().summary(run_id)
    if summary is None or summary.is_active != was_active:
        st.rerun()  # the whole page: the list of runs changes, and the refreshing ends
    head(summary, read_events(supervisor().folder(run_id)))


def draw_body(run_id: str, had_curve: bool) -> None:
    """Numbers, curves, samples and log from the run's folder."""
    folder = supervisor().folder(run_id)
    summary, events = supervisor().summary(run_id), read_events(folder)
    frame = charts.metrics_frame(events)
    if summary is None or had_curve == frame.empty:
        st.rerun()  # the first point has come: from now on the curves refresh at their own pace
    if summary.state in (run_folder.QUEUED, run_folder.PREPARING) or (
        frame.empty and summary.is_active
    ):
        st.info(hint(summary), icon=":material/hourglass_top:")
    if not frame.empty:
        numbers(frame)
        if overfits := charts.overfitting_hint(frame):
            st.warning(overfits, icon=":material/trending_up:")
        entropy = summary.status.get("unigram_entropy")
        if not summary.is_active and (clueless := charts.clueless_hint(frame, entropy)):
            st.warning(clueless, icon=":material/trending_flat:")
        curves, told = st.columns([3, 2], gap="medium")
        with curves:
            draw_curves(frame, summary)
        with told:
            samples(events, summary)
    if summary.config is not None:
        show_settings(summary.config)
    with st.expander("Log", icon=":material/terminal:", expanded=summary.state == "failed"):
        st.code(folder.log_tail() or "Nothing yet.", language=None, wrap_lines=True, height=260)


def hint(summary: RunSummary) -> str:
    """What a run without a curve is waiting for."""
    others = (other for other in supervisor().summaries() if other.run_id != summary.run_id)
    if summary.state == run_folder.QUEUED and not any(other.is_active for other in others):
        return "Starting a process of its own for this run."
    return HINTS[summary.state]


def read_events(folder: RunFolder) -> list[dict]:
    """All events of a run; what this tab has read before is not read again."""
    cache = st.session_state.setdefault("events", {})
    file = folder.events_file
    inode = file.stat().st_ino if os.path.exists(file) else 0
    events, offset, read_inode = cache.get(folder.run_id, ([], 0, inode))
    if inode != read_inode:
        events, offset = [], 0  # a resumed run took back what it will do again
    new, offset = folder.read_events(offset)
    cache[folder.run_id] = (events + new, offset, inode)
    return events + new


def head(summary: RunSummary, events: list[dict]) -> None:
    """Title, state, progress, and the buttons that fit the state."""
    name, colour, icon = STATES[summary.state]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(escape_markdown(describe_run(summary.config)), anchor=False, width="content")
        st.badge(name, color=colour, icon=icon)
    status, message = summary.status, summary.status.get("message", "")
    if message and summary.state in (run_folder.FAILED, run_folder.INTERRUPTED):
        st.error(escape_markdown(message), icon=icon)
    elif message and not summary.is_active:  # why it paused
        st.warning(escape_markdown(message), icon=icon)
    if summary.damage:
        advice = "Correct that, or delete the run."
        damage = escape_markdown(f"This run is damaged. {summary.damage} {advice}")
        st.error(damage, icon=":material/error:")
    for event in events:
        if event["kind"] == "note":
            st.caption(escape_markdown(event["message"]))
    step, steps = status.get("step", 0), max(1, status.get("steps", 1))
    text = f"Step {step:,} of {steps:,}"
    if summary.is_active:
        left = seconds_left(status, events)
        text += "" if left is None else f", {show_seconds(max(0.0, left))} left"
        text += f". {escape_markdown(message)}"
    st.progress(min(1.0, step / steps), text=text)
    buttons(summary)


def seconds_left(status: dict, events: list[dict]) -> float | None:
    """How long the rest will take at the pace so far; None when nothing is known yet."""
    metrics = [event for event in events if event["kind"] == "metrics"]
    if not metrics:
        return None
    # Samples and validations count, the start does not.
    first, last = metrics[0], metrics[-1]
    if last["step"] > first["step"]:
        pace = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    else:
        pace = last["train_seconds"] / last["step"]
    return pace * (status.get("steps", 0) - status.get("step", 0))


def buttons(summary: RunSummary) -> None:
    """Stop while it is active; then generate, download, go on, delete."""
    folder = supervisor().folder(summary.run_id)
    with st.container(horizontal=True):
        if summary.is_active:
            stopping = folder.control_file.exists()
            if st.button(
                "Stopping" if stopping else "Stop",
                icon=":material/stop:",
                disabled=stopping,
                key="stop",
                help="Ends the run after the present step and keeps the model.",
            ):
                with told_disk_errors():
                    supervisor().request(summary.run_id, "stop")
                    st.rerun()  # the whole page: from now on it looks often
            return
        if folder.has_model:
            if st.button("Talk to it", type="primary", icon=":material/edit_note:", key="talk"):
                open_page(generate.page, summary.run_id)
            st.download_button(
                "Download .keras",
                folder.model_file.read_bytes,
                f"keras_lm-{summary.run_id}.keras",
                "application/octet-stream",
                icon=":material/download:",
                key="download",
                on_click="ignore",
            )
        if summary.state != run_folder.FINISHED:
            has_checkpoint = folder.has_checkpoint
            if st.button(
                "Go on" if has_checkpoint else "Start again",
                icon=":material/resume:",
                key="resume",
                help="From its newest checkpoint."
                if has_checkpoint
                else "It has no checkpoint to go on from.",
            ):
                with told_disk_errors():
                    supervisor().resume(summary.run_id)
                    st.rerun()
        if summary.config is not None and st.button(
            "New run like it",
            icon=":material/content_copy:",
            key="fork",
            type="tertiary",
            help="Starts a new run with the same settings, from the beginning.",
        ):
            with told_disk_errors():
                st.query_params["run"] = supervisor().fork(summary.run_id)
                st.rerun()
        if st.button("Delete", icon=":material/delete:", key="delete", type="tertiary"):
            confirm_deletion(summary.run_id)


@st.dialog("Delete this run?")
def confirm_deletion(run_id: str) -> None:
    """Asks before a run's folder is removed."""
    summary = supervisor().summary(run_id)
    st.write("Its curves, samples and model are removed for good:")
    told = escape_markdown(label_runs([summary])[run_id]) if summary else "It is gone already."
    st.write(f"**{told}**")
    with told_disk_errors():
        if others := escape_markdown(", ".join(supervisor().folder(run_id).other_names())):
            st.write(f"Not made by this program, so they stay: {others}.")
    confirmed, cancelled = st.columns(2)
    if cancelled.button("Cancel", width="stretch"):
        st.rerun()
    if confirmed.button("Delete it", type="primary", width="stretch"):
        with told_disk_errors():
            supervisor().delete(run_id)
            st.query_params["run"] = "new"
            st.rerun()


def numbers(frame: pd.DataFrame) -> None:
    """The newest values, each with its recent course."""
    cells = [
        ("Loss", "loss", "{:.3f}", "Cross-entropy on the training text, nats a token."),
        ("Val. loss", "val_loss", "{:.3f}", "The same on text it never trained on."),
        ("Perplexity", "perplexity", "{:.1f}", "Between how many tokens it is undecided."),
        ("Accuracy", "accuracy", "{:.1%}", "How often the likeliest token is right."),
        ("Bits a byte", "bits_per_byte", "{:.2f}", "Loss that compares across tokenizers."),
        ("Tokens / s", "tokens_per_second", "{:,.0f}", "Speed of training, tokens a second."),
        ("Memory", "memory_mb", "{:,.0f} MB", "Of the training process."),
    ]
    with st.container(horizontal=True):
        for label, column, form, help_text in cells:
            if column not in frame:
                continue
            course = frame[column].dropna().tail(SPARKLINE_POINTS).tolist()
            st.metric(
                label,
                form.format(course[-1]),
                help=help_text,
                chart_data=course if len(course) > 1 else course * 2,
                border=True,
                width=CARD_WIDTH,
            )


def draw_curves(frame: pd.DataFrame, summary: RunSummary) -> None:
    """The charts, one a tab."""
    status = summary.status
    vocab_size, entropy = status.get("vocab_size"), status.get("unigram_entropy")
    references = {}
    if vocab_size:
        references["all tokens alike: ln(vocabulary)"] = math.log(vocab_size)
    if entropy:
        references[charts.BY_FREQUENCY] = entropy
    # Only the open one is drawn: a browser on the training machine takes its processor's time.
    tabs = st.tabs(["Loss", *CURVES], key="curves", on_change="rerun")
    if tabs[0].open:
        table = charts.loss_table(frame, references)
        charts.draw(tabs[0], charts.loss_spec(), table, key="chart.loss")
    for tab, (columns, title, log) in zip(tabs[1:], CURVES.values(), strict=True):
        if tab.open:
            drawing = charts.curve_spec(title, tuple(columns.values()), log)
            charts.draw(tab, drawing, charts.curve_table(frame, columns), key=f"chart.{title}")


def show_settings(config: RunConfig) -> None:
    """All the run was made with, by the names that the command line's flags have."""
    with st.expander("Settings of this run", icon=":material/tune:"):
        parts = {"Text": config.data, "Model": config.model, "Training": config.training}
        for column, (title, part) in zip(st.columns(3), parts.items(), strict=True):
            column.markdown(f"**{title}**")
            lines = (f"{name}: {value}" for name, value in dataclasses.asdict(part).items())
            column.code("\n".join(lines), language=None, wrap_lines=True)


def samples(events: list[dict], summary: RunSummary) -> None:
    """What the model wrote, newest first."""
    found = [event for event in reversed(events) if event["kind"] == "sample"]
    st.markdown("**Samples**")
    if not found:
        st.caption(
            "The first one comes soon: each continues the same prompt."
            if summary.is_active
            else "None was made."
        )
    data = summary.config.data if summary.config else None
    with st.container(height=charts.HEIGHT + 40, border=False):
        for sample in found:
            st.caption(f"after step {sample['step']:,}")
            st.code(sample["prompt"] + sample["text"], language=None, wrap_lines=True)
            tell(data, sample["text"], brief=True)
