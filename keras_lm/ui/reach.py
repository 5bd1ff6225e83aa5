"""What lets everybody reach everything: a voice for screen readers, focus, style."""

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent
LINKS_HEIGHT = 36  # pixels: their room before they come
# The sidebar comes later than the rest and pushes it aside, which nobody need see.
SIDEBAR_FIRST = """<style>
.stAppViewContainer:not(:has([data-testid="stSidebar"])) * { visibility: hidden; }
</style>"""


@cache
def _component() -> Any:
    return st.components.v2.component("reach", js=(HERE / "reach.js").read_text())


def prepare_style(sidebar: bool) -> None:
    """Gives the page its style.

    Args:
        sidebar: whether the page draws one; nothing is shown before it is there.
    """
    st.html(HERE / "style.css")
    if sidebar:
        st.html(SIDEBAR_FIRST)


def draw_links(pages: list) -> None:
    """Draws a telephone's links of the pages; elsewhere the style hides them.

    Args:
        pages: of `st.Page`, in the order of the links.
    """
    with st.container(horizontal=True, height=LINKS_HEIGHT, border=False, key="pages"):
        for page in pages:
            st.page_link(page, label=page.title)


def tell_readers(say: str = "", *, key: str) -> None:
    """Speaks to a screen reader.

    Args:
        say: a sentence, spoken when it differs from the last one; empty: nothing new.
        key: of this call, beginning with "reach", different from all others on the page.
    """
    _component()(data=say, key=key)
