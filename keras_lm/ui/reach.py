"""What lets everybody reach everything: a voice for screen readers, focus, style."""

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2 import component

HERE = Path(__file__).parent
STYLED = "styled"  # in the session: the browser has the style
PATIENCE_SECONDS = 3.0  # after which a page is drawn for a browser that does not answer
LINKS_HEIGHT = 64  # pixels: the room of two rows, before they come
# The sidebar comes later than the rest and pushes it aside, which nobody need see.
SIDEBAR_FIRST = """
.stAppViewContainer:not(:has([data-testid="stSidebar"])) * { visibility: hidden; }
"""


@cache
def _component() -> Any:
    return component("reach", js=(HERE / "reach.js").read_text())


def is_styled(has_sidebar: bool) -> bool:
    """Gives the page its style, and says whether the browser has it.

    If not, nothing else should be drawn: the page runs again as soon as the browser answers.

    Args:
        has_sidebar: whether the page draws one; nothing is shown before it is there.
    """
    css = (HERE / "style.css").read_text() + SIDEBAR_FIRST * has_sidebar
    st.html(f"<style>{css}</style>")
    is_known = STYLED in st.session_state
    with st.container(height=1, border=False, key="reach-room"):  # until the style hides it
        answer = _component()(
            data={"say": "", "ask": not is_known}, key="reach", on_styled_change=lambda: None
        )
    if is_known or answer.styled:
        st.session_state[STYLED] = True
        return True
    st.fragment(_wait, run_every=PATIENCE_SECONDS)()
    return False


def _wait() -> None:
    """At its second run, draws the page without an answer."""
    if "waited" in st.session_state:
        st.session_state[STYLED] = True
        st.rerun()
    st.session_state["waited"] = True


def draw_links(pages: list) -> None:
    """Draws a telephone's links of the pages; elsewhere the style hides them.

    Args:
        pages: of `st.Page`, in the order of the links.
    """
    with st.container(
        horizontal=True, gap="xsmall", height=LINKS_HEIGHT, border=False, key="pages"
    ):
        for page in pages:
            st.page_link(page, label=page.title)


def announce(say: str, *, key: str) -> None:
    """Speaks to a screen reader.

    Args:
        say: a sentence, spoken when it differs from the last one.
        key: of this call, beginning with "reach-", different from all others on the page.
    """
    _component()(data={"say": say, "ask": False}, key=key)
