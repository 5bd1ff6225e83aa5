"""The router of the pages: `streamlit run` starts it."""

from pathlib import Path

import streamlit as st

from keras_lm.presentation.formatting import escape_markdown
from keras_lm.runs.ray_queue import check_ray
from keras_lm.runs.slots import chosen_slots
from keras_lm.settings.checks import ConfigError
from keras_lm.ui import reach
from keras_lm.ui.pages import generate, inspect, race, runs, train
from keras_lm.ui.parts import models
from keras_lm.ui.parts.draft import draft

KEPT = (train.RUN, race.RACE, models.MODEL)
ICON = Path(__file__).with_name("icon.svg")


def main() -> None:
    """Draws the page that the address names."""
    # First of all: an icon of a page would be fetched from another host for the browser's tab.
    st.set_page_config(page_title="keras_lm", page_icon=ICON.read_text(), layout="wide")
    pages = {
        "train": st.Page(
            train.page,
            title="Train",
            icon=":material/model_training:",
            url_path="train",
            default=True,
        ),
        "runs": st.Page(runs.page, title="Runs", icon=":material/list:", url_path="runs"),
        "race": st.Page(race.page, title="Race", icon=":material/flag:", url_path="race"),
        "generate": st.Page(
            generate.page, title="Generate", icon=":material/edit_note:", url_path="generate"
        ),
        "inspect": st.Page(
            inspect.page, title="Inspect", icon=":material/search:", url_path="inspect"
        ),
    }
    st.session_state[models.PAGES] = pages
    chosen = st.navigation([*pages.values()], position="top")
    st.set_page_config(page_title=f"{chosen.title} · keras_lm")
    remember_address()
    has_sidebar = chosen not in (pages["runs"], pages["inspect"])
    if not reach.is_styled(has_sidebar):
        return
    if has_sidebar:
        st.sidebar.container()  # it is there, and so is the page, whatever goes wrong below
    reach.draw_links([*pages.values()])
    try:
        chosen_slots()
        check_ray()
    except ConfigError as error:
        st.error(escape_markdown(str(error)))
        return
    try:
        chosen.run()
    finally:  # a page may end itself early
        runs.read_ahead()


def remember_address() -> None:
    """Reads what the address says before the page is drawn: a click until then would drop it."""
    draft()
    st.session_state.update({key: st.query_params[key] for key in KEPT if key in st.query_params})


if __name__ == "__main__":
    main()
