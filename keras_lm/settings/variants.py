"""The variants: one entry per attention, norm, activation, position scheme, tokenizer, optimizer.

An entry is all that the rest of the project knows of a variant: names and sentences, options, the
shapes of its weights, its costs, and what tests may expect. Its code may need TensorFlow, so the
entry only names it, and it is imported when it is used. `docs/extending.md` adds one step by step.
"""

import importlib
import os
from dataclasses import dataclass
from typing import Any

from keras_lm.settings.checks import Checked, ConfigError, field
from keras_lm.settings.kinds import (
    Activation,
    Attention,
    Format,
    Norm,
    Optimizer,
    Positions,
    Shapes,
    Task,
    Tokenizer,
    Variant,
)

VARIABLE = "KERAS_LM_VARIANTS"  # names modules, separated by spaces, that register more variants
MAX_CONTEXT = 65_536
MOST_QUERIES = 12  # of an instance of recall: with four, many a run never learned it

ATTENTIONS: dict[str, Attention] = {}
NORMS: dict[str, Norm] = {}
ACTIVATIONS: dict[str, Activation] = {}
POSITIONS: dict[str, Positions] = {}
TOKENIZERS: dict[str, Tokenizer] = {}
OPTIMIZERS: dict[str, Optimizer] = {}
TASKS: dict[str, Task] = {}
FORMATS: dict[str, Format] = {}  # the entries are in formats.py
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
    Task: TASKS,
    Format: FORMATS,
}


def register(variant: Variant) -> None:
    """Adds a variant, which from now on can be chosen like any other.

    Raises:
        ConfigError: when its name, or an option's name, is taken.
    """
    registry = KINDS[type(variant)]
    if variant.name in registry:
        raise ConfigError(f"A variant needs a new name, but {variant.name} is taken.")
    variants = (known for entries in KINDS.values() for known in entries.values())
    taken = {spec.name for known in variants for spec in known.option_specs()}
    for spec in variant.option_specs():
        if spec.name in taken:
            raise ConfigError(f"An option needs a new name, but {spec.name} is taken.")
    registry[variant.name] = variant


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
    """The options of linear attention."""

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
        "has a third matrix, whose result gates that of the first: 50% more weights.",
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


@dataclass(frozen=True)
class BpeOptions(Checked):
    """The options of byte-pair encoding."""

    bpe_size: int = field(
        0,
        "Of byte pairs: size of the vocabulary, of which the first 256 tokens are the bytes. More "
        "make tokens longer: 512 to 4,096. 0: chosen by the text's length.",
        low=0,
        high=16_384,
        label="Vocabulary size (byte pairs)",
        step=256,
    )


register(
    Tokenizer(
        "bpe",
        "Byte pairs",
        "learns its own word pieces from the text, as many as suit its length.",
        "keras_lm.data.tokenizers.bpe:BpeTokenizer",
        options=BpeOptions,
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

register(
    Optimizer(
        "adamw",
        "AdamW",
        "is the usual one.",
        "keras_lm.training.optimizers:adamw",
        usual_rate=2e-3,
        usual_warmup=100,
    )
)
register(
    Optimizer(
        "muon",
        "Muon",
        "orthogonalizes the update of each matrix and learns more per step.",
        "keras_lm.training.optimizers:muon",
        # Five Newton-Schulz iterations of about 5 d_model operations per weight.
        products=lambda config: 25 * config.d_model,
        block_seconds=0.27,
        usual_rate=3.5e-3,
    )
)

register(
    Task("copy", "Copy", "repeats the letters: hat=hat.", "keras_lm.data.tasks:copy", length=12)
)
register(
    Task("reverse", "Reverse", "writes them backwards: hat=tah.", "keras_lm.data.tasks:reverse")
)
register(Task("sort", "Sort", "puts them in order: hat=aht.", "keras_lm.data.tasks:sort", length=6))
register(
    Task(
        "addition",
        "Addition",
        "adds two numbers, the sum's last digit first: 38+47=580.",
        "keras_lm.data.tasks:addition",
        unit="digits",
        length=3,
        longest=100,
        size=lambda length: 3 * length + 4,
    )
)
register(
    Task(
        "parity",
        "Parity",
        "says after each bit whether the number of ones so far is odd: 01101=01001.",
        "keras_lm.data.tasks:parity",
        unit="bits",
        length=16,
        shortest=6,
    )
)
register(
    Task(
        "brackets",
        "Brackets",
        "says after each bracket whether all are closed or some open, and n from the first on that "
        "closes nothing or another kind: ([])=oooy, ([)]=oonn.",
        "keras_lm.data.tasks:brackets",
        unit="pairs",
        length=6,
        shortest=3,
        longest=250,
        size=lambda length: 4 * length + 2,
    )
)
register(
    Task(
        "recall",
        "Recall",
        "says which digit followed each letter, twelve at most: a3k7c1=k7c1a3.",
        "keras_lm.data.tasks:recall",
        unit="pairs",
        length=12,
        shortest=4,
        longest=52,
        size=lambda length: 2 * length + 2 + 2 * min(length, MOST_QUERIES),
    )
)
register(
    Task(
        "induction",
        "Induction",
        "says what came after the last letter when it was there before: hqatcqa.",
        "keras_lm.data.tasks:induction",
        length=16,
        shortest=4,
        size=lambda length: length + 2,
    )
)

for _module in os.environ.get(VARIABLE, "").split():
    importlib.import_module(_module)
