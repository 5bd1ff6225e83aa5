"""How a run goes in words, for the eye and for a screen reader."""

from collections.abc import Sequence

import streamlit as st

from keras_lm.presentation.course import Event, describe_course, until_milestone
from keras_lm.presentation.diagnosis import Finding, diagnose
from keras_lm.presentation.formatting import escape_markdown, show_best
from keras_lm.runs.supervisor import RunSummary
from keras_lm.storage.run_folder import TRAINING


def curve_remark(summary: RunSummary, events: Sequence[Event]) -> None:
    """Draws how the run goes, what is wrong with it, and what happened to it."""
    course = describe_course(summary.config, summary.status, events)
    findings = findings_of(summary, events)
    entropy = summary.status.get("unigram_entropy")
    if course and entropy and not findings:
        course += (
            f" A model that knows only how frequent each token is scores {entropy:.2f}; lower "
            "means that it uses the context."
        )
    st.caption(escape_markdown(course))
    if not summary.is_active and (best := show_best(summary.status)):
        st.caption(f"{best} It is the one to try and to download.")
    for finding in findings:
        st.markdown(f":orange[:material/lightbulb:] :small[{escape_markdown(finding.text)}]")
    for event in events:
        if event["kind"] == "note":
            st.caption(escape_markdown(event["message"]))


def spoken(name: str, summary: RunSummary, events: Sequence[Event]) -> str:
    """What a screen reader says of the run; while it trains, it changes once in each tenth of it.

    Args:
        name: of its state.
        summary: of the run.
        events: all of its events so far.
    """
    known: set[str] = set()
    if summary.state == TRAINING:
        steps = summary.status.get("steps", 1)
        events = until_milestone(events, steps)
        before = until_milestone(events[:-1], steps)
        known = {finding.kind for finding in findings_of(summary, before)}
    course = describe_course(summary.config, summary.status, events)
    news = [found.text for found in findings_of(summary, events) if found.kind not in known]
    # What made a run fail is an alert, which is spoken by itself.
    return " ".join([f"{name}.", course, *news]).strip()


def findings_of(summary: RunSummary, events: Sequence[Event]) -> list[Finding]:
    """What is wrong with the run as far as these events show."""
    return diagnose(summary.config, summary.status, events)
