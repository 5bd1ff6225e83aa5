"""Variants that the product does not have: docs/extending.md takes them as its examples."""

from dataclasses import dataclass

from keras_lm.settings.checks import Checked, field
from keras_lm.settings.variants import Activation, Attention, Norm, Positions


@dataclass(frozen=True)
class WindowOptions(Checked):
    """Of sliding-window attention."""

    window: int = field(
        32,
        "Of sliding-window attention: how many tokens each sees, itself included: 16 to 256.",
        low=1,
        high=65_536,
        label="Window (sliding-window attention)",
        step=16,
    )


SLIDING = Attention(
    "sliding",
    "Sliding window",
    "sees the last few tokens exactly and nothing that is older.",
    "tests.variants.code:SlidingWindowAttention",
    "#3f7d20",
    options=WindowOptions,
    is_exact=False,
    sees_whole_past=False,
    scores=lambda config: min(config.context_length / 2, config.window),
)
UNIT_NORM = Norm(
    "unit",
    "Unit length",
    "divides by the length and has no weights.",
    "tests.variants.code:UnitNorm",
    shapes=lambda config: [],
)
SILU = Activation("silu", "SiLU", "is x times its own sigmoid.", "tests.variants.code:silu")
NO_POSITIONS = Positions("none", "None", "leaves the order to the causal mask alone.")
VARIANTS = (SLIDING, UNIT_NORM, SILU, NO_POSITIONS)
