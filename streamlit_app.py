"""The page: `streamlit run streamlit_app.py`."""

import streamlit as st

from keras_lm.ui import generate, inspect, train

st.set_page_config(page_title="keras_lm", page_icon=":material/neurology:", layout="wide")
pages = [
    st.Page(
        train.page, title="Train", icon=":material/model_training:", url_path="train", default=True
    ),
    st.Page(generate.page, title="Generate", icon=":material/edit_note:", url_path="generate"),
    st.Page(inspect.page, title="Inspect", icon=":material/search:", url_path="inspect"),
]
st.navigation(pages, position="top").run()
