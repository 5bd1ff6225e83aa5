"""What a run was made with."""

from collections.abc import Sequence

import streamlit as st

from keras_lm.presentation.formatting import escape_markdown, show_value
from keras_lm.settings.config import RunConfig
from keras_lm.settings.presets import TITLES, nearest_preset
from keras_lm.ui.parts.fields import label_of


def run_settings(config: RunConfig | None, longer: Sequence[int] = ()) -> None:
    """What differs from the nearest preset, then all settings by the names of their flags.

    Args:
        config: of the run as it is by now; None: it cannot be read.
        longer: the steps from which it was trained longer.
    """
    st.header("Settings of this run", anchor=False)
    if config is None:
        st.caption("There are none to read.")
        return
    preset, changes = nearest_preset(config)
    shown = [f"{label_of(key)} {show_value(value)}" for key, value in changes.items()]
    differs = f", but: {' · '.join(shown)}" if shown else ", as it is"
    st.markdown(f"**{TITLES[preset]}**{escape_markdown(differs)}")
    if longer:
        st.caption(f"Trained longer after step {' and '.join(f'{step:,}' for step in longer)}.")
    parts = {"Text": config.data, "Model": config.model, "Training": config.training}
    for title, part in parts.items():
        st.caption(f"**{title}**")
        lines = (f"{name}: {value}" for name, value in part.to_dict().items())
        st.text("\n".join(lines))  # which, unlike code, has its size from the first moment on
