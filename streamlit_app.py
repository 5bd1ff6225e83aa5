"""The page: `streamlit run streamlit_app.py`."""

import time
from pathlib import Path

import streamlit as st

from keras_lm.ui import generate, inspect, models, reach, train
from keras_lm.ui.draft import draft

WIDENING_SECONDS, STYLE_SECONDS = 0.1, 0.25
KEPT = (train.RUN, models.MODEL)
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
if is_new:
    # Read before the waits below: a click on another page's link would drop the address.
    st.session_state["seen"] = True
    draft()
    st.session_state.update({key: st.query_params[key] for key in KEPT if key in st.query_params})
    time.sleep(WIDENING_SECONDS)  # the browser widens the page while there is nothing in it yet
has_sidebar = chosen is not pages[-1]
reach.prepare_style(has_sidebar)
if is_new:
    time.sleep(STYLE_SECONDS)  # the style is there before what it hides
if has_sidebar:
    st.sidebar.container()  # it is there, and so is the page, whatever goes wrong below
reach.draw_links(pages)
chosen.run()
reach.tell_readers(key="reach")
