"""The samples of a run: a slider over its steps, and how surprising a validation text is."""

from functools import cache
from pathlib import Path
from typing import Any

from streamlit.components.v2 import component

from keras_lm.presentation.timeline import Point, Timeline, describe_window, shade, thin

MOST_POINTS = 60  # that the slider reaches; more cost the browser at every refresh
MOST_CHARACTERS = 2_000  # of a sample; what follows is in the run's events
CUT = "…"

_FOLDER = Path(__file__).parent


@cache
def _component() -> Any:
    return component(
        "keras_lm_timeline",
        html=(_FOLDER / "timeline.html").read_text(),
        css=(_FOLDER / "timeline.css").read_text(),
        js=(_FOLDER / "timeline.js").read_text(),
    )


def show_timeline(run_id: str, timeline: Timeline, unit: str) -> None:
    """Draws the newest sample, until another one is chosen.

    Args:
        run_id: another run begins with its newest sample.
        timeline: of the run, with at least one point.
        unit: what its tokens are called.
    """
    points = [point_data(timeline, point, unit) for point in thin(timeline.points, MOST_POINTS)]
    data = {"tokens": timeline.tokens, "points": points}
    _component()(key=f"timeline.{run_id}", data=data)


def point_data(timeline: Timeline, point: Point, unit: str = "tokens") -> dict[str, Any]:
    """What the browser gets of a point."""
    text = point.text
    if len(text) > MOST_CHARACTERS:
        text = text[:MOST_CHARACTERS] + CUT
    words = describe_window(timeline.tokens, point.of_next, unit) if point.of_next else ""
    return {
        "step": point.step,
        "prompt": point.prompt,
        "text": text,
        "shades": [0.0, *map(shade, point.of_next)] if point.of_next else [],
        "words": words,
    }
