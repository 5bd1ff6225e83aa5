"""The shape of a language model: its hyperparameters, and the weights that follow from them."""

import math
from dataclasses import dataclass
from typing import Any

from keras_lm.settings.checks import ConfigError, field
from keras_lm.settings.kinds import Shapes
from keras_lm.settings.options import WithOptions
from keras_lm.settings.variants import (
    ACTIVATIONS,
    ATTENTIONS,
    MAX_CONTEXT,
    NORMS,
    POSITIONS,
    REGISTRIES,
    LinearOptions,
)

MAX_WIDTH = 8_192
ADAPTED = ("qkv/vars/0", "output_projection/vars/0", "up/vars/0", "down/vars/0")  # by LoRA
LINEAR: dict[str, Any] = {spec.name: spec for spec in LinearOptions.specs()}


def ngram_tables(vocab_size: int, order: int, most_rows: int) -> list[int]:
    """Rows of the tables of two tokens, of three, ...: one per group of tokens, if these fit.

    Args:
        vocab_size: how many different tokens there are.
        order: tokens of the longest groups; 1: no table.
        most_rows: of one table.

    Example:
        >>> ngram_tables(vocab_size=65, order=3, most_rows=16_384)
        [4356, 16384]
    """
    groups = ((vocab_size + 1) ** size for size in range(2, order + 1))  # with none before the text
    return [min(count, most_rows) for count in groups]


@dataclass(frozen=True)
class ModelConfig(WithOptions):
    """The shape of one language model. `parameter_count()` is exact.

    Example:
        >>> ModelConfig(vocab_size=65, d_model=64, num_blocks=2, ffn_dim=256).parameter_count()
        139712
    """

    registries = REGISTRIES
    vocab_size: int = field(
        0,
        "Rows of the embedding: how many different tokens the text has; 0: not known yet.",
        low=0,
        high=1_114_112,
        hidden="It follows from the text.",
    )
    context_length: int = field(
        64,
        "How many tokens the model sees at once. Longer remembers more and costs more: 64 to 512.",
        low=2,
        high=MAX_CONTEXT,
        label="Context length",
        suggested=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
    )
    d_model: int = field(
        128,
        "Width of the stream between blocks. Wider learns more and is slower: 64 to 768.",
        low=2,
        high=MAX_WIDTH,
        label="Width (d_model)",
        step=16,
    )
    num_heads: int = field(
        4,
        "Attention heads per block; they share d_model evenly. Usual head sizes are 16 to 64.",
        low=1,
        high=256,
        label="Heads",
        suggested=(1, 2, 3, 4, 6, 8, 12),
    )
    num_blocks: int = field(
        4,
        "Transformer blocks, one after the other. Depth costs time: 2 to 12.",
        low=1,
        high=128,
        label="Blocks",
        step=1,
    )
    ffn_dim: int = field(
        512,
        "Width inside the feed-forward layer, usually 4 x d_model.",
        low=1,
        high=65_536,
        label="Feed-forward width (ffn_dim)",
        step=32,
    )
    dropout: float = field(
        0.0,
        "Fraction of the activations set to 0 while training, against overfitting: 0 for short "
        "runs, 0.1 to 0.2 when a small text is read many times.",
        low=0.0,
        high=0.9,
        label="Dropout",
        step=0.05,
    )
    attention: str = field(
        "standard", "How tokens look back at earlier ones.", choices=ATTENTIONS, label="Attention"
    )
    norm: str = field(
        "rmsnorm", "Normalization before each layer.", choices=NORMS, label="Normalization"
    )
    activation: str = field(
        "swiglu",
        "Non-linearity of the feed-forward layer.",
        choices=ACTIVATIONS,
        label="Activation",
    )
    positions: str = field(
        "rotary",
        "How the model knows the order of tokens.",
        choices=POSITIONS,
        label="Positions",
    )
    tie_embeddings: bool = field(
        False, "Use the embedding's matrix as the output layer too.", label="Tie embeddings"
    )
    use_bias: bool = field(
        False, "Biases in the linear layers and LayerNorm, as in GPT-2.", label="Biases"
    )
    qk_norm: bool = field(
        False,
        "RMS-normalize queries and keys of each head: allows higher learning rates.",
        label="QK-norm",
    )
    logit_soft_cap: float = field(
        0.0,
        "Keep logits within +-cap by cap * tanh(logits / cap); 0: off, usually 15 to 30.",
        low=0.0,
        high=1e6,
        label="Logit soft cap",
        step=5.0,
    )
    zero_init: bool = field(
        False,
        "Start the output projections at zero, so that each block begins as the identity.",
        label="Zero-initialized outputs",
    )
    ngram_order: int = field(
        1,
        "Also embed the last 2 or 3 tokens together, which teaches a small model the spelling of a "
        "text in far fewer steps; 1: only the token itself.",
        low=1,
        high=3,
        label="Tokens embedded together (n-grams)",
        step=1,
    )
    ngram_rows: int = field(
        16_384,
        "Most rows of a table of 2 or 3 tokens; where there are more such groups, they share rows: "
        "4,096 to 65,536.",
        low=1,
        high=2**24,
        label="Rows per table of n-grams",
        step=4_096,
    )
    # These two are keys of every config.json, whichever the attention.
    chunk_length: int = LINEAR["chunk_length"]
    num_slots: int = LINEAR["num_slots"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.num_heads:
            raise ConfigError(
                f"must be a multiple of num_heads, but {self.d_model} is not a multiple of "
                f"{self.num_heads}: choose for example d_model {self._nearest_width()}.",
                "d_model",
            )
        if POSITIONS[self.positions].needs_even_heads and self.head_dim % 2:
            others = (name for name, entry in POSITIONS.items() if not entry.needs_even_heads)
            raise ConfigError(
                f"must give an even head size (d_model / num_heads) with {self.positions} "
                f"positions, but {self.d_model} / {self.num_heads} = {self.head_dim}: choose "
                f"positions {next(others)}, or for example d_model {self._nearest_width()}.",
                "d_model",
            )

    def _nearest_width(self) -> int:
        """The d_model nearest to this one that num_heads can share."""
        step = self.width_step
        return step * min(max(1, round(self.d_model / step)), MAX_WIDTH // step)

    @property
    def width_step(self) -> int:
        """What d_model must be a multiple of; rotary positions need even heads."""
        return self.num_heads * (2 if POSITIONS[self.positions].needs_even_heads else 1)

    @property
    def head_dim(self) -> int:
        """Size of one attention head: d_model / num_heads."""
        return self.d_model // self.num_heads

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """All arrays of a model by their paths in its weights file, in the order of `weights`."""
        layers: dict[str, Shapes] = {"embedding": [(self.vocab_size, self.d_model)]}
        if POSITIONS[self.positions].has_table:
            layers["layers/embedding_1"] = [(self.context_length, self.d_model)]
        for index, rows in enumerate(self.ngram_tables()):
            name = f"embedding_{index}" if index else "embedding"
            layers[f"layers/ngram_embedding/tables/{name}"] = [(rows, self.d_model)]
        block = self._block_shapes()
        for index in range(self.num_blocks):
            name = f"blocks/decoder_block_{index}" if index else "blocks/decoder_block"
            layers |= {f"{name}/{layer}": shapes for layer, shapes in block.items()}
        layers["final_norm"] = NORMS[self.norm].shapes(self)
        if not self.tie_embeddings:
            layers["layers/dense"] = [(self.d_model, self.vocab_size)]
        return {
            f"{layer}/vars/{index}": shape
            for layer, shapes in layers.items()
            for index, shape in enumerate(shapes)
        }

    def ngram_tables(self) -> list[int]:
        """Rows of its tables of two tokens, of three, ..."""
        return ngram_tables(self.vocab_size, self.ngram_order, self.ngram_rows)

    def _block_shapes(self) -> dict[str, Shapes]:
        """The layers of one block and their arrays."""
        width, norm = self.d_model, NORMS[self.norm].shapes(self)
        inside = self.ffn_dim * ACTIVATIONS[self.activation].width
        further = ATTENTIONS[self.attention].shapes(self)
        return {
            "attention_norm": norm,
            "attention/qkv": self._dense(width, 3 * width),
            "attention/output_projection": self._dense(width, width),
            **{f"attention/{layer}": shapes for layer, shapes in further.items()},
            "feed_forward_norm": norm,
            "feed_forward/up": self._dense(width, inside),
            "feed_forward/down": self._dense(self.ffn_dim, width),
        }

    def _dense(self, inputs: int, outputs: int) -> Shapes:
        return [(inputs, outputs), (outputs,)] if self.use_bias else [(inputs, outputs)]

    def adapter_count(self, rank: int) -> int:
        """Weights of low-rank adapters for the four matrices of each block.

        Example:
            >>> ModelConfig(d_model=64, num_blocks=1, ffn_dim=128).adapter_count(rank=2)
            1792
        """
        shapes = self.weight_shapes().items()
        return sum(rank * sum(shape) for path, shape in shapes if path.endswith(ADAPTED))

    def parameter_count(self) -> int:
        """Number of trainable weights, exactly."""
        return sum(map(math.prod, self.weight_shapes().values()))
