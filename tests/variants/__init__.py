"""Variants that the product does not have: docs/extending.md takes them as its examples."""

from dataclasses import dataclass
from typing import Any

from keras_lm.settings.checks import Checked, field
from keras_lm.settings.kinds import Shapes
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


@dataclass(frozen=True)
class GroupOptions(Checked):
    """Of grouped-query attention."""

    num_kv_heads: int = field(
        1,
        "Of grouped-query attention: heads of keys and values, which divide num_heads.",
        low=1,
        high=64,
        label="Heads of keys and values (grouped-query attention)",
        step=1,
    )


def _qkv(config: Any) -> dict[str, Shapes]:
    """One projection to all queries, and to keys and values of fewer heads."""
    features = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    return {"qkv": [(config.d_model, features), *[(features,)] * config.use_bias]}


GROUPED = Attention(
    "grouped",
    "Grouped queries",
    "lets several heads share keys and values.",
    "tests.variants.code:GroupedQueryAttention",
    "#9c2f5a",
    options=GroupOptions,
    is_exact=False,
    shapes=_qkv,
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
VARIANTS = (SLIDING, GROUPED, UNIT_NORM, SILU, NO_POSITIONS)
