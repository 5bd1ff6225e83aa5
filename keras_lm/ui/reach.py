"""What lets everybody reach everything: a voice for screen readers, focus, style."""

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

HERE = Path(__file__).parent


@cache
def _component() -> Any:
    return st.components.v2.component("reach", js=(HERE / "reach.js").read_text())


def prepare() -> None:
    """Draws what every page needs first: the style."""
    st.html(HERE / "style.css")


def finish(pages: list) -> None:
    """Draws what every page needs last, where it moves nothing: a voice, a telephone's links.

    Args:
        pages: of `st.Page`, in the order of the links, which the style puts first.
    """
    with st.container(horizontal=True, key="pages"):
        for page in pages:
            st.page_link(page, label=page.title)
    tell_readers(key="reach")


def tell_readers(say: str = "", *, key: str) -> None:
    """Speaks to a screen reader.

    Args:
        say: a sentence, spoken when it differs from the last one; empty: nothing new.
        key: of this call, beginning with "reach", different from all others on the page.
    """
    _component()(data=say, key=key)
