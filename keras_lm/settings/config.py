"""Every hyperparameter: its default, its range, what it does.

The dataclasses are frozen and check themselves. The page's help texts, the command line's flags and
the README all come from the metadata here.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from keras_lm.settings.checks import Checked, ConfigError, field

ATTENTIONS = ("standard", "flash", "linear")
NORMS = ("layernorm", "rmsnorm")
ACTIVATIONS = ("gelu", "swiglu", "relu", "relu2")
POSITIONS = ("rotary", "learned")
TOKENIZERS = ("char", "gpt2")
CLEANINGS = ("none", "classic")
OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("cosine", "linear", "trapezoid", "constant")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")

SCHEMA = 1
MAX_CONTEXT, MAX_WIDTH = 65_536, 8_192


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The shape of one language model. `parameter_count()` is exact."""

    vocab_size: int = field(
        0, "Rows of the embedding; 0: as many as the text needs.", low=0, high=1_114_112
    )
    context_length: int = field(
        64,
        "How many tokens the model sees at once. Longer remembers more and costs more: 64 to 512.",
        low=2,
        high=MAX_CONTEXT,
    )
    d_model: int = field(
        128,
        "Width of the stream between blocks. Wider learns more and is slower: 64 to 768.",
        low=2,
        high=MAX_WIDTH,
    )
    num_heads: int = field(
        4,
        "Attention heads a block; they share d_model evenly. Usual head sizes are 16 to 64.",
        low=1,
        high=256,
    )
    num_blocks: int = field(
        4, "Transformer blocks, one after the other. Depth costs time: 2 to 12.", low=1, high=128
    )
    ffn_dim: int = field(
        512, "Width inside the feed-forward layer, usually 4 x d_model.", low=1, high=65_536
    )
    dropout: float = field(
        0.0,
        "Part of the activations silenced while training, against overfitting: 0 for short runs, "
        "0.1 to 0.2 when a small text is read many times.",
        low=0.0,
        high=0.9,
    )
    attention: str = field(
        "standard",
        "How tokens look back at earlier ones. standard: exact softmax attention. "
        "flash: the same result in memory that grows with the context instead of with its square; "
        "choose it from a context of about 1,024 tokens on. "
        "linear: exact for the last chunk or two, older tokens as averages in a few slots, in time "
        "and memory that grow with the context only linearly; for contexts from 512 tokens on.",
        choices=ATTENTIONS,
    )
    norm: str = field(
        "rmsnorm",
        "Normalization before each layer. rmsnorm is newer and cheaper; layernorm is GPT-2's.",
        choices=NORMS,
    )
    activation: str = field(
        "swiglu",
        "Non-linearity of the feed-forward layer. swiglu has a third matrix (half more weights); "
        "relu2 is the fastest; gelu is GPT-2's.",
        choices=ACTIVATIONS,
    )
    positions: str = field(
        "rotary",
        "How the model knows the order of tokens: rotary turns queries and keys by their distance; "
        "learned adds a trained vector a position, as GPT-2 does.",
        choices=POSITIONS,
    )
    tie_embeddings: bool = field(False, "Use the embedding's matrix as the output layer too.")
    use_bias: bool = field(False, "Biases in the linear layers and LayerNorm, as in GPT-2.")
    qk_norm: bool = field(
        False, "RMS-normalize queries and keys of each head: allows higher learning rates."
    )
    logit_soft_cap: float = field(
        0.0,
        "Keep logits within +-cap by cap * tanh(logits / cap); 0: off, usual 15 to 30.",
        low=0.0,
        high=1e6,
    )
    zero_init: bool = field(
        False, "Start the output projections at zero, so that each block begins as the identity."
    )
    chunk_length: int = field(
        64,
        "Of linear attention: tokens a chunk. A token sees its own chunk and the one before "
        "exactly; longer is closer to standard and slower: 16 to 128.",
        low=1,
        high=65_536,
    )
    num_slots: int = field(
        32,
        "Of linear attention: slots a head for what is older than the two chunks. More keep older "
        "tokens apart better and cost more: 8 to 64.",
        low=1,
        high=4_096,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.num_heads:
            raise ConfigError(
                f"d_model must be a multiple of num_heads, but {self.d_model} is not a multiple of "
                f"{self.num_heads}: choose for example d_model {self._nearest_width()}."
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ConfigError(
                f"rotary positions need an even head size (d_model / num_heads), but "
                f"{self.d_model} / {self.num_heads} = {self.head_dim}: choose positions learned, "
                f"or for example d_model {self._nearest_width()}."
            )

    def _nearest_width(self) -> int:
        """The d_model nearest to this one that num_heads can share."""
        step = self.width_step
        return step * min(max(1, round(self.d_model / step)), MAX_WIDTH // step)

    @property
    def width_step(self) -> int:
        """What d_model must be a multiple of; rotary positions need even heads."""
        return self.num_heads * (2 if self.positions == "rotary" else 1)

    @property
    def head_dim(self) -> int:
        """Size of one attention head: d_model / num_heads."""
        return self.d_model // self.num_heads

    def parameter_count(self) -> int:
        """Number of trainable weights, exactly."""
        width, bias = self.d_model, int(self.use_bias)
        norm = width * (1 + bias if self.norm == "layernorm" else 1)
        up = self.ffn_dim * (2 if self.activation == "swiglu" else 1)
        attention = width * 3 * width + width * width + bias * 4 * width
        if self.attention == "linear":  # a projection to the slots, and their gates and decays
            attention += self.num_heads * self.num_slots * (width + 2)
        feed_forward = width * up + self.ffn_dim * width + bias * (up + width)
        embeddings = self.vocab_size * width * (1 if self.tie_embeddings else 2)
        if self.positions == "learned":
            embeddings += self.context_length * width
        return embeddings + self.num_blocks * (2 * norm + attention + feed_forward) + norm


@dataclass(frozen=True)
class DataConfig(Checked):
    """Which text, and how it becomes tokens."""

    data: str = field(
        "sense-and-sensibility",
        "Name of a built-in or catalogue text, or the path of a file, maybe gzip's, of a folder, "
        "or a pattern such as 'books/*.txt'.",
    )
    encoding: str = field(
        "", "Of the text's files, such as latin-1; empty: UTF-8, or UTF-16 with a byte order mark."
    )
    title: str = field("", "What lists call the text; empty: its name, or its file's.")
    tokenizer: str = field(
        "char",
        "char: every character is a token, quick to learn. gpt2: GPT-2's word pieces, cut down to "
        "those that occur in the text; better words, needs more steps.",
        choices=TOKENIZERS,
    )
    cleaning: str = field(
        "none",
        "none keeps the text as it is; classic lower-cases it, keeps letters, digits and . , ! ? "
        "and puts a space before punctuation.",
        choices=CLEANINGS,
    )
    separator: str = field(
        "",
        "What stands between documents, such as <|endoftext|>; \\n is a new line. It becomes a "
        "token of its own, is put between several files, and a generated text ends at it.",
    )
    validation_fraction: float = field(
        0.1,
        "The text's last part, never trained on, that measures progress: usual 0.1.",
        low=0.0,
        high=0.5,
    )
    max_text_mb: float = field(50.0, "Largest text accepted, in megabytes.", low=0.001, high=1024)

    @property
    def separator_text(self) -> str:
        """The separator itself, with new lines in place of their signs."""
        return self.separator.replace("\\n", "\n")

    @property
    def label(self) -> str:
        """What lists call the text."""
        first, *others = self.data.split("\n")
        more = f" and {len(others)} more" if others else ""
        return self.title or f"{Path(first).stem}{more}"


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """How one run trains. A step is one update of the weights."""

    steps: int = field(
        1000, "Updates of the weights. More is better until it overfits.", low=1, high=10_000_000
    )
    batch_size: int = field(
        12,
        "Sequences in one micro-batch. Larger is smoother and slower: 4 to 64.",
        low=1,
        high=4096,
    )
    gradient_accumulation: int = field(
        1,
        "Micro-batches whose gradients are averaged into one update: the effect of a larger batch "
        "in the memory of a small one.",
        low=1,
        high=1024,
    )
    optimizer: str = field(
        "adamw",
        "adamw is the usual one; muon orthogonalizes the update of each matrix and learns more a "
        "step.",
        choices=OPTIMIZERS,
    )
    learning_rate: float = field(
        1e-3, "Peak size of an update. Too high diverges: 3e-4 to 1e-2.", low=1e-7, high=1.0
    )
    min_learning_rate: float = field(
        1e-5,
        "The learning rate at the end of the decay: 0 to a tenth of the peak.",
        low=0.0,
        high=1.0,
    )
    warmup_steps: int = field(
        100, "Steps over which the learning rate rises from 0: 20 to 500.", low=0, high=1_000_000
    )
    schedule: str = field(
        "cosine",
        "How the learning rate falls after the warm-up: along a cosine, linearly, trapezoid (flat, "
        "then linearly over the last half) or not at all.",
        choices=SCHEDULES,
    )
    weight_decay: float = field(
        0.1,
        "Pull of matrices towards zero, times the learning rate: 0 to 0.1; with muon up to 2, when "
        "a text is read many times.",
        low=0.0,
        high=10.0,
    )
    momentum: float = field(
        0.95, "Muon's memory of the gradient: 0.9 for short runs, usual 0.95.", low=0.0, high=0.9999
    )
    beta_1: float = field(0.9, "Adam's memory of the gradient: usual 0.9.", low=0.0, high=0.9999)
    beta_2: float = field(
        0.99, "Adam's memory of the squared gradient: 0.95 to 0.999.", low=0.0, high=0.99999
    )
    epsilon: float = field(
        1e-8, "Adam's guard against division by zero: usual 1e-8.", low=1e-12, high=0.1
    )
    clip_norm: float = field(
        1.0,
        "Longest allowed gradient (global norm), against jumps: usual 1; 0: no clipping.",
        low=0.0,
        high=1e6,
    )
    precision: str = field(
        "auto",
        "auto: mixed_float16 with loss scaling on a GPU, float32 on a CPU. 16 bits save memory and "
        "time on a GPU only.",
        choices=PRECISIONS,
    )
    seed: int = field(1, "Same seed, same settings: same run.", low=0, high=2_147_483_647)
    deterministic: bool = field(
        False, "Only operations with a fixed order of sums: slower on a GPU, the same to the bit."
    )
    log_every: int = field(10, "Steps between points of the loss curve.", low=1, high=1_000_000)
    eval_every: int = field(
        200, "Steps between validations; 0: only at the end.", low=0, high=10_000_000
    )
    sample_every: int = field(200, "Steps between samples; 0: none.", low=0, high=10_000_000)
    sample_prompt: str = field("", "What the samples continue; empty: the text's first words.")
    sample_tokens: int = field(100, "Length of a sample in tokens.", low=1, high=10_000)
    checkpoint_every: int = field(
        500, "Steps between checkpoints to resume from; 0: none.", low=0, high=10_000_000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_learning_rate > self.learning_rate:
            raise ConfigError(
                f"min_learning_rate must not exceed learning_rate, but {self.min_learning_rate} "
                f"is more than {self.learning_rate}: choose at most {self.learning_rate}."
            )


@dataclass(frozen=True)
class GenerationConfig(Checked):
    """How text is continued."""

    max_new_tokens: int = field(100, "Length of the continuation in tokens.", low=1, high=100_000)
    temperature: float = field(
        0.8,
        "How daring: 0 always takes the likeliest token, 0.7 to 1 is natural, above 1 is wild.",
        low=0.0,
        high=10.0,
    )
    top_k: int = field(
        40, "Choose among the k likeliest tokens only; 0: among all.", low=0, high=1_114_112
    )
    top_p: float = field(
        0.9,
        "Choose among the fewest tokens whose probabilities reach p; 1: among all.",
        low=0.0,
        high=1.0,
    )
    min_p: float = field(
        0.0,
        "Choose among tokens at least this times as likely as the likeliest; 0: among all, 0.05 to "
        "0.1 is usual.",
        low=0.0,
        high=1.0,
    )
    repetition_penalty: float = field(
        1.0,
        "Makes tokens that have occurred less likely; 1: not at all, 1.1 to 1.3 is usual with word "
        "pieces, characters have to repeat.",
        low=1.0,
        high=10.0,
    )
    seed: int = field(
        1, "The same seed gives the same text; change it for another.", low=0, high=2_147_483_647
    )


@dataclass(frozen=True)
class RunConfig:
    """All of one run: what `config.json` in its folder holds."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig

    def with_vocab_size(self, vocab_size: int) -> Self:
        """The same run with the vocabulary that its text turned out to have."""
        return dataclasses.replace(
            self, model=dataclasses.replace(self.model, vocab_size=vocab_size)
        )

    def warnings(self) -> list[str]:
        """Sentences about settings that are allowed but cannot do what they are for."""
        model, training, found = self.model, self.training, []
        if training.warmup_steps >= training.steps:
            reached = round(100 * training.steps / training.warmup_steps)
            found.append(
                f"The warm-up of {training.warmup_steps:,} steps does not end before the run of "
                f"{training.steps:,}: the learning rate rises to the last step, to {reached}% of "
                f"its peak. Choose for example warmup_steps {training.steps // 10:,}."
            )
        window, length = 2 * model.chunk_length, model.context_length
        if model.attention == "linear" and length <= window:
            ways = ["attention standard"]
            ways += [f"a context_length above {window:,}"] if window < MAX_CONTEXT else []
            ways += [f"a chunk_length of at most {(length - 1) // 2:,}"] if length > 2 else []
            found.append(
                f"Attention linear never uses its slots here: its window of two chunks, {window:,} "
                f"tokens, holds the whole context of {length:,}, so it computes what standard "
                f"does. Choose {' or '.join(ways)}."
            )
        return found

    def with_data(self, data: str, title: str) -> Self:
        """The same run with a text from elsewhere; a title that was set is kept."""
        title = self.data.title or title
        return dataclasses.replace(
            self, data=dataclasses.replace(self.data, data=data, title=title)
        )

    def to_dict(self) -> dict:
        """A JSON object with the schema's number."""
        return {"schema": SCHEMA} | dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Reads what `to_dict` wrote; ConfigError when it is something else."""
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise ConfigError(f'A run\'s config needs "schema": {SCHEMA}; this one is not of ours.')
        return cls(
            ModelConfig.from_dict(values.get("model")),
            DataConfig.from_dict(values.get("data")),
            TrainingConfig.from_dict(values.get("training")),
        )
