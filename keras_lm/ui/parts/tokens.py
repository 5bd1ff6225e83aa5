"""The text of the Inspect page, token by token: a control by which a token is chosen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import streamlit as st
from streamlit.components.v2 import component

from keras_lm.presentation.timeline import shade

KEY = "inspect.tokens"
AFTER = "…"  # stands for what follows the text

_FOLDER = Path(__file__).parent
_component = component(
    "keras_lm_tokens",
    html='<div class="text" role="listbox" tabindex="0" aria-label="Text, token by token"></div>'
    '<p class="description"></p>'
    '<div class="strip" role="slider" tabindex="0" aria-label="Token"></div>',
    css=(_FOLDER / "tokens.css").read_text(),
    js=(_FOLDER / "tokens.js").read_text(),
)


def choose_token(result: dict, on_choice: Callable[[int], None]) -> None:
    """Draws the text with a bar per token.

    Args:
        result: what `keras_lm.generation.inspection.inspect` gives.
        on_choice: called with the index of a token when it is chosen.
    """
    likely = result["of_next"][-1]

    def take() -> None:
        token = st.session_state[KEY].get("token")
        if token is not None:
            on_choice(int(token))

    _component(
        key=KEY,
        data={
            "tokens": [*result["tokens"], AFTER],
            "shades": [0.0, *(shade(probability) for probability in likely), 0.0],
            "bits": [0.0, *(round(surprise(probability), 2) for probability in likely), 0.0],
            "titles": [describe(result, token) for token in range(len(result["tokens"]) + 1)],
            "token": result["token"],
        },
        on_token_change=take,
    )


def surprise(probability: float) -> float:
    """Bits."""
    return float(-np.log2(max(probability, 1e-6))) + 0.0


def describe(result: dict, token: int) -> str:
    """What the model expected at a token, one line each."""
    texts = result["tokens"]
    if token == 0:
        return f"token 0: {texts[0]!r}\nthe first one, for which the model makes no guess"
    lines = [f"token {token}: what follows the text"]
    if token < len(texts):
        likely = result["of_next"][-1][token - 1]
        lines = [f"token {token}: {texts[token]!r}"]
        lines += [f"probability {likely:.2%}, surprise {surprise(likely):.1f} bits"]
    pairs = zip(
        result["alternatives"][-1][token - 1], result["probabilities"][-1][token - 1], strict=True
    )
    guesses = ", ".join(f"{text!r} {probability:.1%}" for text, probability in pairs)
    return "\n".join(
        [*lines, f"entropy {result['entropies'][token - 1]:.2f} nats", f"expected: {guesses}"]
    )
