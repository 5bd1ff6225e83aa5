"""How text is continued: its length, and how each token is chosen."""

from dataclasses import dataclass

from keras_lm.settings.checks import Checked, field


@dataclass(frozen=True)
class GenerationConfig(Checked):
    """How text is continued.

    Example:
        >>> GenerationConfig(temperature=0.5, seed=3).max_new_tokens
        100
    """

    max_new_tokens: int = field(
        100,
        "Length of the continuation in tokens.",
        low=1,
        high=100_000,
        label="Length in tokens",
        slider=(1, 2000),
        step=10,
    )
    temperature: float = field(
        0.8,
        "How daring: 0 always takes the likeliest token, 0.7 to 1 is natural, above 1 is wild.",
        low=0.0,
        high=10.0,
        label="Temperature",
        slider=(0.0, 2.0),
        step=0.05,
    )
    top_k: int = field(
        40,
        "Choose among the k likeliest tokens only; 0: among all.",
        low=0,
        high=1_114_112,
        label="Top-k",
        slider=(0, 200),
        step=1,
        neutral=0,
    )
    top_p: float = field(
        0.9,
        "Choose among the fewest tokens whose probabilities reach p; 1: among all.",
        low=0.0,
        high=1.0,
        label="Top-p",
        slider=(0.0, 1.0),
        step=0.01,
        neutral=1.0,
    )
    min_p: float = field(
        0.0,
        "Choose among tokens that have at least this fraction of the likeliest one's probability; "
        "0: among all, 0.05 to 0.1 is usual.",
        low=0.0,
        high=1.0,
        label="Min-p",
        slider=(0.0, 1.0),
        step=0.01,
        neutral=0.0,
    )
    repetition_penalty: float = field(
        1.0,
        "Makes tokens that have occurred less likely; 1: off, 1.1 to 1.3 is usual with word "
        "pieces. Leave it at 1 with characters, which have to repeat.",
        low=1.0,
        high=10.0,
        label="Repetition penalty",
        slider=(1.0, 2.0),
        step=0.05,
        neutral=1.0,
    )
    seed: int = field(
        1,
        "The same seed gives the same text; change it for another.",
        low=0,
        high=2_147_483_647,
        label="Seed",
        step=1,
    )
