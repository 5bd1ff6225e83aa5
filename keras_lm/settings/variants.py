"""The variants: one entry per attention, norm, activation, position scheme, tokenizer, optimizer.

An entry is all that the rest of the project knows of a variant: names and sentences, options, the
shapes of its weights, its costs, and what tests may expect. Its code may need TensorFlow, so the
entry only names it, and it is imported when it is used. `docs/extending.md` adds one step by step.
"""

import dataclasses
import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_lm.settings.checks import Checked, ConfigError, field

VARIABLE = "KERAS_LM_VARIANTS"  # names modules, separated by spaces, that register more variants
MAX_CONTEXT = 65_536
GREY = "#6b7280"

# A function of a ModelConfig, which has the variants' options as attributes.
Shapes = list[tuple[int, ...]]


@dataclass(frozen=True)
class Variant:
    """What every kind of variant has.

    Attributes:
        name: of its flag's value, and in files.
        label: what the page calls it.
        sentence: what it does and when to choose it, going on from its name.
        code: "module:name" of what makes it; imported when a model is built.
        colour: in charts.
        options: a dataclass of the settings that it alone has; None: none. Each becomes a flag, a
            field of the form, a key of config.json and an attribute of ModelConfig.
    """

    name: str
    label: str
    sentence: str
    code: str = ""
    colour: str = GREY
    options: type[Checked] | None = None

    def load(self) -> Any:
        """What `code` names; the first call imports TensorFlow."""
        module, _, name = self.code.partition(":")
        return getattr(importlib.import_module(module), name)

    def option_specs(self) -> tuple[dataclasses.Field, ...]:
        """Its own settings."""
        return self.options.specs() if self.options else ()

    def own_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `values` that are its own options."""
        names = {spec.name for spec in self.option_specs()}
        return {name: value for name, value in values.items() if name in names}


@dataclass(frozen=True)
class Attention(Variant):
    """An attention; `code` names a CausalSelfAttention, whose arguments its options are.

    Attributes:
        is_exact: it equals softmax attention over the whole past.
        sees_whole_past: every earlier token can change a result.
        shapes: of its further weights: the name of each layer in it, and that layer's arrays.
        scores: how many scores there are per token and head, the mean over the context.
        scores_kept: how many numbers of these the backward pass needs; None: all.
        block_bytes: of memory that compiling it takes per block.
        block_seconds: that compiling it takes per block, on the machine of `estimates`.
        row_seconds: the same, per block and token of the context.
        copies: how often it copies a token's features, apart from products and scores.
        warnings: sentences about settings with which it cannot do what it is for.
    """

    is_exact: bool = True
    sees_whole_past: bool = True
    shapes: Callable[[Any], dict[str, Shapes]] = lambda config: {}
    scores: Callable[[Any], float] = lambda config: config.context_length / 2
    scores_kept: Callable[[Any], float] | None = None
    block_bytes: int = 0
    block_seconds: float = 0.0
    row_seconds: float = 0.0
    copies: int = 0
    warnings: Callable[[Any], list[str]] = lambda config: []


@dataclass(frozen=True)
class Norm(Variant):
    """A normalization; `code` names what makes a Keras layer of `use_bias` and its options.

    Attributes:
        shapes: of its weights.
    """

    shapes: Callable[[Any], Shapes] = lambda config: [(config.d_model,)]


@dataclass(frozen=True)
class Activation(Variant):
    """A non-linearity; `code` names a function of (..., width * ffn_dim) to (..., ffn_dim).

    Attributes:
        width: how many times ffn_dim it takes.
        kept: numbers that the backward pass needs, in units of ffn_dim.
    """

    width: int = 1
    kept: int = 2


@dataclass(frozen=True)
class Positions(Variant):
    """How a model knows the order of tokens.

    `code` names a function that turns queries or keys (..., length, head_dim) by their positions
    (length,); empty: they stay as they are.

    Attributes:
        has_table: a trained vector per position is added to the embedding, so that the context is
            as long as the table.
        needs_even_heads: the head size must be even.
    """

    has_table: bool = False
    needs_even_heads: bool = False


@dataclass(frozen=True)
class Tokenizer(Variant):
    """How a text becomes tokens; `code` names a VocabularyTokenizer."""


@dataclass(frozen=True)
class Optimizer(Variant):
    """How gradients change weights.

    `code` names a function of a TrainingConfig and a learning rate's schedule to a Keras optimizer.

    Attributes:
        products: operations of matrix products per update, for each weight of the blocks' matrices.
        block_seconds: that compiling it takes per block, on the machine of `estimates`.
    """

    products: Callable[[Any], float] = lambda config: 0.0
    block_seconds: float = 0.0


ATTENTIONS: dict[str, Attention] = {}
NORMS: dict[str, Norm] = {}
ACTIVATIONS: dict[str, Activation] = {}
POSITIONS: dict[str, Positions] = {}
TOKENIZERS: dict[str, Tokenizer] = {}
OPTIMIZERS: dict[str, Optimizer] = {}
# Of a model's parts, by the setting that chooses among them.
REGISTRIES: dict[str, dict] = {
    "attention": ATTENTIONS,
    "norm": NORMS,
    "activation": ACTIVATIONS,
    "positions": POSITIONS,
}
KINDS = {
    Attention: ATTENTIONS,
    Norm: NORMS,
    Activation: ACTIVATIONS,
    Positions: POSITIONS,
    Tokenizer: TOKENIZERS,
    Optimizer: OPTIMIZERS,
}


def register(variant: Variant) -> None:
    """Adds a variant, which from now on can be chosen like any other.

    Raises:
        ConfigError: when its name, or an option's name, is taken.
    """
    registry = KINDS[type(variant)]
    if variant.name in registry:
        raise ConfigError(f"A variant needs a new name, but {variant.name} is taken.")
    taken = {spec.name for spec in option_specs()}
    for spec in variant.option_specs():
        if spec.name in taken:
            raise ConfigError(f"An option needs a new name, but {spec.name} is taken.")
    registry[variant.name] = variant


def option_specs() -> Iterator[dataclasses.Field]:
    """The own settings of all variants."""
    for registry in REGISTRIES.values():
        for variant in registry.values():
            yield from variant.option_specs()


register(
    Attention(
        "standard",
        "Standard",
        "weighs every earlier token, exactly; time and memory grow with the square of the context. "
        "The choice up to a few hundred tokens.",
        "keras_lm.model.attention.standard:StandardAttention",
        "#e07a2f",
        row_seconds=0.47 / 256,
    )
)
register(
    Attention(
        "flash",
        "Flash",
        "gives the same result block by block: memory grows only with the context, time still with "
        "its square. For contexts from about 1,024 tokens on when nothing may be left out.",
        "keras_lm.model.attention.flash:FlashAttention",
        "#8a63d2",
        scores_kept=lambda config: 2.0,
        block_seconds=0.55,
    )
)


@dataclass(frozen=True)
class LinearOptions(Checked):
    """Of linear attention."""

    chunk_length: int = field(
        64,
        "Of linear attention: tokens per chunk. A token sees its own chunk and the one before "
        "exactly; longer is closer to standard and slower: 16 to 128.",
        low=1,
        high=65_536,
        label="Chunk length (linear attention)",
        step=16,
    )
    num_slots: int = field(
        32,
        "Of linear attention: slots per head for what is older than the two chunks. More keep "
        "older tokens apart better and cost more: 8 to 64.",
        low=1,
        high=4_096,
        label="Slots (linear attention)",
        step=8,
    )


def _slots(config: Any) -> dict[str, Shapes]:
    """A projection to the slots, and their gates and decays."""
    slots = config.num_heads * config.num_slots
    return {"slots": [(config.d_model, slots), (slots,), (slots,)]}


def _unused_slots(config: Any) -> list[str]:
    window, length = 2 * config.chunk_length, config.context_length
    if length > window:
        return []
    ways = ["attention standard"]
    ways += [f"a context_length above {window:,}"] if window < MAX_CONTEXT else []
    ways += [f"a chunk_length of at most {(length - 1) // 2:,}"] if length > 2 else []
    return [
        f"Attention linear never uses its slots here: its window of two chunks, {window:,} tokens, "
        f"holds the whole context of {length:,}, so it computes what standard does. Choose "
        f"{' or '.join(ways)}."
    ]


register(
    Attention(
        "linear",
        "Linear",
        "sees the last one to two chunks exactly and what is older as averages in a few slots: "
        "time and memory grow only with the context. In a short run it learns contexts from about "
        "1,000 tokens on far better than the others.",
        "keras_lm.model.attention.linear:LinearAttention",
        "#0f8a94",
        options=LinearOptions,
        is_exact=False,
        shapes=_slots,
        scores=lambda c: min(c.context_length / 2, 2 * c.chunk_length) + c.num_slots,
        block_bytes=57 * 2**20,
        block_seconds=1.17,
        copies=1,
        warnings=_unused_slots,
    )
)

register(
    Norm(
        "layernorm",
        "LayerNorm",
        "subtracts the mean and divides by the standard deviation, as in GPT-2.",
        "keras_lm.model.norms:layer_norm",
        shapes=lambda config: [(config.d_model,)] * (2 if config.use_bias else 1),
    )
)
register(
    Norm(
        "rmsnorm",
        "RMSNorm",
        "only divides by the root mean square: newer and cheaper.",
        "keras_lm.model.norms:rms_norm",
    )
)

register(
    Activation(
        "gelu", "GELU", "is a smooth form of ReLU, as in GPT-2.", "keras_lm.model.activations:gelu"
    )
)
register(
    Activation(
        "swiglu",
        "SwiGLU",
        "has a third matrix, whose result gates the others': half more weights.",
        "keras_lm.model.activations:swiglu",
        width=2,
        kept=3,
    )
)
register(
    Activation("relu", "ReLU", "sets what is negative to 0.", "keras_lm.model.activations:relu")
)
register(
    Activation(
        "relu2",
        "ReLU squared",
        "is the square of ReLU, and the fastest.",
        "keras_lm.model.activations:relu2",
    )
)

register(
    Positions(
        "rotary",
        "Rotary",
        "turns queries and keys by their positions, so that a score depends on the distance.",
        "keras_lm.model.attention.base:rotate",
        needs_even_heads=True,
    )
)
register(
    Positions(
        "learned",
        "Learned",
        "adds a trained vector per position, as GPT-2 does.",
        has_table=True,
    )
)

register(
    Tokenizer(
        "char",
        "Characters",
        "makes every character a token: quick to learn.",
        "keras_lm.data.tokenizers.characters:CharTokenizer",
    )
)
register(
    Tokenizer(
        "gpt2",
        "GPT-2 word pieces",
        "has GPT-2's word pieces, cut down to those that occur in the text: better words, needs "
        "more steps.",
        "keras_lm.data.tokenizers.gpt2:Gpt2Tokenizer",
    )
)

register(Optimizer("adamw", "AdamW", "is the usual one.", "keras_lm.training.optimizers:adamw"))
register(
    Optimizer(
        "muon",
        "Muon",
        "orthogonalizes the update of each matrix and learns more per step.",
        "keras_lm.training.optimizers:muon",
        # Five Newton-Schulz iterations of about 5 d_model operations per weight.
        products=lambda config: 25 * config.d_model,
        block_seconds=0.27,
    )
)

for _module in os.environ.get(VARIABLE, "").split():
    importlib.import_module(_module)
