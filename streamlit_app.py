"""The page: `streamlit run streamlit_app.py`."""

import time
from pathlib import Path

import streamlit as st

from keras_lm.ui import generate, inspect, reach, train

WIDENING_SECONDS, STYLE_SECONDS = 0.1, 0.25
ICON = Path(generate.__file__).with_name("icon.svg")

# Told before the pages: an icon of theirs would be fetched from another host for the browser's tab.
st.set_page_config(page_title="keras_lm", page_icon=ICON.read_text(), layout="wide")
pages = [
    st.Page(
        train.page, title="Train", icon=":material/model_training:", url_path="train", default=True
    ),
    st.Page(generate.page, title="Generate", icon=":material/edit_note:", url_path="generate"),
    st.Page(inspect.page, title="Inspect", icon=":material/search:", url_path="inspect"),
]
chosen = st.navigation(pages, position="top")
st.set_page_config(page_title=f"{chosen.title} · keras_lm")
is_new = "seen" not in st.session_state
st.session_state["seen"] = True
if is_new:  # the browser widens the page while there is nothing in it yet
    time.sleep(WIDENING_SECONDS)
reach.prepare(sidebar=chosen is not pages[-1])
if is_new:  # the style must be there before what it hides
    time.sleep(STYLE_SECONDS)
reach.draw_links(pages)
chosen.run()
reach.tell_readers(key="reach")
