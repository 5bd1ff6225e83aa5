"""One run as it is now: state, progress, curves, samples, log; drawn again while it is active."""

import gc
import html
import math
import os
import time
from typing import Literal, NamedTuple

import pandas as pd
import streamlit as st

from keras_lm.presentation import charts
from keras_lm.presentation.course import unit_of
from keras_lm.presentation.formatting import (
    CHART_HEIGHT,
    NUMBERS_HEIGHT,
    escape_markdown,
    name_run,
    show_clock,
    show_seconds,
)
from keras_lm.presentation.timeline import read_timeline
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.config import RunConfig
from keras_lm.settings.training_config import MOST_STEPS
from keras_lm.storage import run_folder
from keras_lm.storage.run_folder import RunFolder
from keras_lm.ui.parts.chart import chart_options, draw_chart
from keras_lm.ui.parts.copied import show_copies
from keras_lm.ui.parts.notes import NOTES_LOST
from keras_lm.ui.parts.run_buttons import buttons
from keras_lm.ui.parts.run_course import curve_remark, spoken
from keras_lm.ui.parts.run_settings import run_settings
from keras_lm.ui.parts.timeline import show_timeline
from keras_lm.ui.parts.waiting import waiting_in_words
from keras_lm.ui.reach import announce
from keras_lm.ui.services import supervisor

# Each refresh takes server and browser some tenths of a second of a processor, which the run may
# need; until the first point there is little to draw.
WAITING_SECONDS, HEAD_SECONDS, CURVES_SECONDS = 1.0, 2.5, 5.0
LONG_RUN_SECONDS, LONG_RUN_CALM = 180.0, 2.0  # who waits for minutes need not see every second
# Fading and sliding at every refresh takes a browser a third more of the processor than the change.
STILL = "<style>.stMain * {transition: none !important}</style>"
# Pixels: every part has its room from the first moment on, so that nothing moves when something
# comes. On a telephone, where what is written may need more, style.css lifts some of them.
TITLE_HEIGHT, PROGRESS_HEIGHT = 36, 42
NUMBER_WIDTH = 100  # pixels: seven in a row on a laptop, three on a telephone
NONE_YET = "–"
MANY_POINTS = 10_000  # of a curve; up to twice as many are all read, of more about so many


class Badge(NamedTuple):
    """How a state looks beside the title."""

    name: str
    colour: Literal["gray", "blue", "green", "orange", "red"]
    icon: str


STATES = {
    run_folder.QUEUED: Badge("Waiting", "gray", ":material/hourglass_empty:"),
    run_folder.PREPARING: Badge("Preparing", "blue", ":material/settings:"),
    run_folder.TRAINING: Badge("Training", "blue", ":material/model_training:"),
    run_folder.PAUSED: Badge("Paused", "orange", ":material/pause:"),
    run_folder.FINISHED: Badge("Finished", "green", ":material/check_circle:"),
    run_folder.STOPPED: Badge("Stopped", "orange", ":material/stop_circle:"),
    run_folder.FAILED: Badge("Failed", "red", ":material/error:"),
    run_folder.INTERRUPTED: Badge("Interrupted", "red", ":material/power_off:"),
}
# Tab: the columns with their curves' names, the axis' title, whether it is logarithmic.
CURVES = {
    "Perplexity": ({"perplexity": "train", "val_perplexity": "validation"}, "perplexity", True),
    "Learning rate": ({"learning_rate": "learning rate"}, "learning rate", False),
    "Gradient": ({"grad_norm": "gradient norm"}, "gradient norm", False),
    "Speed": ({"tokens_per_second": "tokens per second"}, "tokens per second", False),
}
FORGETTING = "Forgetting"  # a further tab of a run that goes on with a model
FAILED_TO_LEARN = Badge("Failed to learn", "orange", ":material/trending_flat:")
COMPILING = "The first step is being compiled, which takes some seconds."


# Streamlit collects garbage after every refresh. Nothing of what is loaded by now ever becomes
# garbage, and not looking through it spares two thirds of a refresh.
gc.freeze()


def dashboard(summary: RunSummary) -> None:
    """Draws the run; while it is active, the head often and the curves now and then."""
    run_id, events = summary.run_id, read_events(supervisor().folder(summary.run_id))
    config, has_curve = summary.trained_config, any(e["kind"] == "metrics" for e in events)
    often = now_and_then = None
    if summary.is_active:
        left = seconds_left(summary.status, events)
        calm = 1.0 if left is None or left < LONG_RUN_SECONDS else LONG_RUN_CALM
        often, now_and_then = calm * HEAD_SECONDS, calm * CURVES_SECONDS
        if not has_curve or supervisor().folder(run_id).control_file.exists():
            often = now_and_then = WAITING_SECONDS
        st.html(STILL)
    with st.sidebar:
        run_settings(config, charts.longer_marks(events))
        report_button(run_id)
    with st.container(gap="xsmall", key="run"):
        st.fragment(draw_head, run_every=often)(run_id, summary.is_active, config)
        st.fragment(draw_body, run_every=now_and_then)(run_id, has_curve)


def report_button(run_id: str) -> None:
    """Downloads the run as one HTML file, which is written when it is asked for."""

    def write() -> str:
        # Drawing as SVG loads a library that the page need not wait for.
        from keras_lm.presentation.report import run_report

        summary = supervisor().summary(run_id)
        return run_report(supervisor().folder(run_id), summary) if summary else ""

    st.download_button(
        "Report",
        write,
        f"keras_lm-{run_id}.html",
        "text/html",
        icon=":material/description:",
        key="report",
        on_click="ignore",
        help="One HTML file with the curves, samples and settings, and the command that repeats "
        "the run. It opens without a network.",
    )


def draw_head(run_id: str, was_active: bool, had_config: RunConfig | None) -> None:
    """State, progress and buttons from the run's folder."""
    summary = supervisor().summary(run_id)
    if summary is None or (summary.is_active, summary.trained_config) != (was_active, had_config):
        st.rerun()  # the whole page: list of runs and settings change, or the refreshing ends
    with st.container(gap="xsmall"):
        head(summary, read_events(supervisor().folder(run_id)))


def draw_body(run_id: str, had_curve: bool) -> None:
    """Numbers, curves, samples and log from the run's folder."""
    folder = supervisor().folder(run_id)
    summary, events = supervisor().summary(run_id), read_events(folder)
    frame = charts.metrics_frame(events)
    if summary is None or had_curve == frame.empty:
        st.rerun()  # the first point has come: from now on the curves refresh at their own pace
    with st.container(gap="xsmall"):
        numbers(frame)
        curves, written = st.columns([3, 2], gap="medium")
        with curves, st.container(gap="xsmall"):
            draw_curves(frame, summary, events)
            with st.container(border=False, key="curve-remark"):
                curve_remark(summary, events)
        with written, st.container(gap="xsmall"):
            samples(events, summary)
        log(folder, is_open=summary.state == run_folder.FAILED)


def log(folder: RunFolder, is_open: bool) -> None:
    """The newest whole lines of the process's own output, the last of them in view."""
    with st.expander("Log", icon=":material/terminal:", expanded=is_open):
        lines = html.escape(folder.log_tail() or "Nothing yet.")
        st.html(f'<div class="log" tabindex="0"><pre>{lines}</pre></div>')


def read_events(folder: RunFolder) -> list[dict]:
    """The events of a run, most points of a very long one left out; each line is read once."""
    cache = st.session_state.setdefault("events", {})
    file = folder.events_file
    inode = file.stat().st_ino if os.path.exists(file) else 0
    events, offset, read_inode = cache.get(folder.run_id, ([], 0, inode))
    if inode != read_inode:
        events, offset = [], 0  # a resumed run took back what it will do again
    new, offset = folder.read_events(offset, MANY_POINTS)
    cache[folder.run_id] = (events + new, offset, inode)
    return events + new


def head(summary: RunSummary, events: list[dict]) -> None:
    """Title, state, progress, and the buttons that fit the state."""
    hopeless = summary.state == run_folder.FINISHED and summary.failed_to_learn
    name, colour, icon = FAILED_TO_LEARN if hopeless else STATES[summary.state]
    with st.container(
        horizontal=True,
        vertical_alignment="center",
        height=TITLE_HEIGHT,
        border=False,
        key="run-title",
    ):
        title = escape_markdown(name_run(summary))
        st.title(title, anchor=False, width="content")
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
    if summary.notes_damage:
        st.warning(escape_markdown(f"{NOTES_LOST} {summary.notes_damage}"), icon=icon)
    step, steps = status.get("step", 0), max(1, status.get("steps", 1))
    parts = waiting(summary) or [position(summary), *course(summary, events)]
    with st.container(height=PROGRESS_HEIGHT, border=False, key="run-progress"):
        st.progress(min(1.0, step / steps), text=" · ".join(parts))
    announce(spoken(name, summary, events), key="reach-run")
    buttons(summary)


def position(summary: RunSummary) -> str:
    """The step, and of how many, as far as that is known."""
    status = summary.status
    step, steps = status.get("step", 0), max(1, status.get("steps", 1))
    if steps >= MOST_STEPS:  # a budget of seconds whose pace is not measured yet
        return f"Step {step:,}"
    about = "about " * bool(summary.is_active and status.get("ends_at"))
    return f"Step {step:,} of {about}{steps:,}"


def waiting(summary: RunSummary) -> list[str]:
    """What a run without a step is waiting for, and its position in the queue."""
    if summary.state == run_folder.PREPARING:
        return [escape_markdown(summary.status.get("reading") or COMPILING)]
    return waiting_in_words(summary) if summary.state == run_folder.QUEUED else []


def course(summary: RunSummary, events: list[dict]) -> list[str]:
    """While it is active, how long it will take; then its best step, its duration and its end."""
    if summary.is_active:
        left = seconds_left(summary.status, events)
        parts = [] if left is None else [f"{show_seconds(max(0.0, left))} left"]
        if ends_at := summary.status.get("ends_at"):
            parts = [f"ends in {show_clock(ends_at - time.time())}"]
        message = summary.status.get("message", "")
        return [*parts, escape_markdown(message)] if message else parts
    metrics = [event for event in events if event["kind"] == "metrics"]
    parts = []
    if validated := [event for event in metrics if "val_loss" in event]:
        best = min(validated, key=lambda event: event["val_loss"])
        parts.append(f"best validation loss {best['val_loss']:.3f} at step {best['step']:,}")
    if metrics and "seconds" in metrics[-1]:
        parts.append(f"took {show_seconds(metrics[-1]['seconds'])}")
    if ended := summary.status.get("heartbeat"):
        parts.append(time.strftime("%Y-%m-%d %H:%M", time.localtime(ended)))
    return parts


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


def numbers(frame: pd.DataFrame) -> None:
    """The newest values; a dash for what has not come yet."""
    cells = [
        ("Loss", "loss", "{:.3f}", "Cross-entropy on the training text, nats per token."),
        ("Val. loss", "val_loss", "{:.3f}", "The same on text it never trained on."),
        ("Perplexity", "perplexity", None, "As uncertain as choosing among this many tokens."),
        ("Accuracy", "accuracy", "{:.1%}", "How often the likeliest token is right."),
        ("Bits / byte", "bits_per_byte", "{:.2f}", "Loss that compares across tokenizers."),
        ("Tokens / s", "tokens_per_second", "{:,.0f}", "Speed of training, tokens per second."),
        ("Memory", "memory_mb", "{:,.0f} MB", "Of the training process."),
    ]
    if "task_accuracy" in frame:
        cells[3] = (
            "Exact",
            "task_accuracy",
            "{:.1%}",
            "Held-out instances whose whole answer is right.",
        )
    with st.container(horizontal=True, height=NUMBERS_HEIGHT, border=False, key="numbers"):
        for label, column, form, help_text in cells:
            values = frame[column].dropna() if column in frame else pd.Series(dtype=float)
            shown = NONE_YET
            if len(values):
                newest = values.iloc[-1]
                form = form or ("{:,.1f}" if newest < 1_000 else "{:,.0f}")
                shown = form.format(newest)
            st.metric(label, shown, help=help_text, width=NUMBER_WIDTH)


def draw_curves(frame: pd.DataFrame, summary: RunSummary, events: list[dict]) -> None:
    """The charts, one per tab."""
    status = summary.status
    vocab_size, entropy = status.get("vocab_size"), status.get("unigram_entropy")
    references = {}
    if vocab_size:
        references[charts.AT_RANDOM] = math.log(vocab_size)
    if entropy:
        references[charts.BY_FREQUENCY] = entropy
    # Only the open one is drawn: a browser on the training machine takes its processor's time.
    teaches = summary.config is not None and bool(summary.config.data.init_from)
    names = ["Loss", *CURVES, *[FORGETTING] * teaches]
    tabs = dict(zip(names, st.tabs(names, key="curves", on_change="rerun"), strict=True))
    options = chart_options()
    if tabs["Loss"].open:
        table = charts.loss_table(frame, references, charts.longer_marks(events), options)
        with tabs["Loss"]:
            draw_chart(
                charts.loss_looks(options),
                charts.LOSS_TITLE,
                table,
                options,
                key=f"chart.loss.{summary.run_id}",
            )
    if teaches and tabs[FORGETTING].open:
        with tabs[FORGETTING]:
            draw_chart(
                charts.FORGETTING_LOOKS,
                charts.FORGETTING_TITLE,
                charts.forgetting_table(frame, status.get("first_bits"), options),
                options,
                key=f"chart.forgetting.{summary.run_id}",
            )
    for name, (columns, title, log) in CURVES.items():
        if tabs[name].open:
            chosen = options._replace(log=options.log or log)
            table = charts.curve_table(frame, columns, chosen)
            looks = charts.curve_looks(columns, chosen)
            with tabs[name]:
                draw_chart(looks, title, table, chosen, key=f"chart.{title}.{summary.run_id}")


def samples(events: list[dict], summary: RunSummary) -> None:
    """What the model wrote; each sample has its own room, however long it is."""
    timeline = read_timeline(events)
    st.markdown("**Samples**")
    with st.container(height=CHART_HEIGHT, border=False):
        if timeline.points:
            show_timeline(summary.run_id, timeline, unit_of(summary.config))
        else:
            st.caption(no_samples(summary))
    with st.container(border=False, key="sample-remark"):
        newest = [event for event in events if event["kind"] == "sample"][-1:]
        if newest:
            sample_remark(newest[0], summary)


def no_samples(summary: RunSummary) -> str:
    """Why there is none."""
    if summary.config is not None and not summary.config.training.sample_every:
        return "No samples: sampling is off."
    if summary.is_active:
        return "The first one comes soon; each continues the same prompt."
    return "No samples: the run ended before the first one."


def sample_remark(sample: dict, summary: RunSummary) -> None:
    """What was left out of the prompt; of an ended run, what its sample copied."""
    if isinstance(unknown := sample.get("unknown"), list):
        shown = escape_markdown(" ".join(map(str, unknown[:10])))
        st.caption(f"Ignored, since the training text does not contain them: {shown}")
    if not summary.is_active:
        data = summary.config.data if summary.config else None
        show_copies(data, sample["text"], brief=True)
