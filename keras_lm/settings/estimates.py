"""What a run will take, before it starts: memory and time from its config alone.

Weights are counted exactly. Time and memory are sums of what a run does and keeps, each times what
it took in sixteen varied runs; what a variant adds is in its entry. The time is corrected by how
fast this machine multiplies matrices: products by all of it, starting by its square root, the rest
not, which held on a second processor. `benchmarks.estimates` measures how well that holds.
"""

import bisect
import dataclasses
from typing import NamedTuple

from keras_lm.settings.config import ConfigError, ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.data_config import MEASURED_TOKENS
from keras_lm.settings.variants import ACTIVATIONS, ATTENTIONS, OPTIMIZERS
from keras_lm.system import machine

FLOAT_BYTES = 4
# Peak bytes: Python, TensorFlow and its compiler; what compiling a block adds; and how often the
# weights, the floats that a step keeps, and the attention weights are there at once.
PROCESS_BYTES = 840 * 2**20
BLOCK_BYTES = 19 * 2**20
COPIES = {"weights": 5.66, "activations": 1.85, "scores": 0.66}

# Seconds on the machine of the sixteen runs, whose rate of matrix products was:
REFERENCE_FLOPS = 2.05e11
START_SECONDS = {"process": 4.5, "block": 0.38, "1,000 symbols": 0.08}
START_SECONDS_PER_BLOCK_WITH_DROPOUT = 0.37
END_SECONDS = {"process": 2.0, "block": 0.77}  # compiling validation and samples; saving
OTHERS_AT_START = 0.5  # start and end wait for other programs half as much as steps do
VALIDATION_PART = 0.26  # of a training step's work, per token
STEP_SECONDS = {  # per unit of `step_work`
    "products": 3.38e-12,
    "attention products": 1.04e-11,
    "scores": 1.66e-9,
    "activations": 2.67e-9,
    "logits": 3.21e-9,
    "table updates": 1.3e-9,
    "copies": 3.99e-8,
    "dropout": 1.07e-8,
    "optimizer products": 3.59e-12,
}
PRODUCTS = ("products", "attention products", "optimizer products")
LOWERED = ("batch_size", "context_length", "d_model", "num_blocks")  # to need less memory


def memory_bytes(config: RunConfig) -> int:
    """Peak memory of the training process in bytes, vocab_size being known."""
    model = config.model
    tokens = config.training.batch_size * model.context_length
    floats = {
        "weights": model.parameter_count(),
        "activations": tokens * model.num_blocks * _activations(model),
        "scores": tokens * model.num_blocks * model.num_heads * _scores_kept(model),
    }
    per_block = BLOCK_BYTES + ATTENTIONS[model.attention].block_bytes
    copies = sum(COPIES[name] * count for name, count in floats.items())
    return round(PROCESS_BYTES + model.num_blocks * per_block + FLOAT_BYTES * copies)


def check_memory(config: RunConfig) -> None:
    """ConfigError when the run needs more memory than there is, with what would make it fit."""
    needed, present = memory_bytes(config), machine.total_memory()
    if needed > present:
        alone = [_lower_to_fit(config, (name,), present) for name in LOWERED]
        ways = [way for way in alone if way] or [_lower_to_fit(config, LOWERED, present)]
        advice = f"lower {', or '.join(ways)}" if ways[0] else "use a machine with more"
        raise ConfigError(
            f"This run needs about {needed / 2**30:,.1f} GB of memory, but the machine has "
            f"{present / 2**30:,.1f} GB: {advice}."
        )


def _lower_to_fit(config: RunConfig, names: tuple[str, ...], present: int) -> str:
    """What the fields, halved together until it fits, are lowered to; "" if it never does."""
    lowered = config
    while memory_bytes(lowered) > present:
        before = lowered
        for name in names:
            lowered = _halve(lowered, name)
        if lowered == before:
            return ""
    changed = [name for name in names if _value(lowered, name) != _value(config, name)]
    return " and ".join(f"{name} to {_value(lowered, name):,}" for name in changed)


def _part(name: str) -> str:
    return "training" if name == "batch_size" else "model"


def _value(config: RunConfig, name: str) -> int:
    return getattr(getattr(config, _part(name)), name)


def _halve(config: RunConfig, name: str) -> RunConfig:
    """With the field at about half of what it is, and at least its smallest value."""
    step = config.model.width_step if name == "d_model" else 1
    smallest = max(step, 2 if name in ("d_model", "context_length") else 1)
    half = max(smallest, _value(config, name) // 2 // step * step)
    changed = dataclasses.replace(getattr(config, _part(name)), **{name: half})
    return dataclasses.replace(config, **{_part(name): changed})


def _activations(model: ModelConfig) -> int:
    """Floats per token and block, other than attention weights."""
    return 10 * model.d_model + model.ffn_dim * ACTIVATIONS[model.activation].kept


def _scores_kept(model: ModelConfig) -> float:
    """Numbers of the scores, per token and head, that the backward pass needs."""
    return (ATTENTIONS[model.attention].scores_kept or _scores)(model)


def _scores(model: ModelConfig) -> float:
    """Scores per token and head, the mean over the context."""
    return ATTENTIONS[model.attention].scores(model)


def step_work(model: ModelConfig, training: TrainingConfig) -> dict[str, float]:
    """What one update does: floating-point operations of products, floats of all else."""
    tokens = training.batch_size * training.gradient_accumulation * model.context_length
    embeddings = model.vocab_size * model.d_model * (0 if model.tie_embeddings else 1)
    in_tables = sum(model.ngram_tables()) * model.d_model
    multiplied = model.parameter_count() - embeddings - in_tables
    in_blocks = tokens * model.num_blocks
    matrices = multiplied - model.vocab_size * model.d_model
    if rank := training.lora_rank:
        matrices = model.adapter_count(rank)
    return {
        "products": 6 * tokens * multiplied,  # of forward and backward pass
        "attention products": 12 * in_blocks * _scores(model) * model.d_model,
        "scores": in_blocks * _scores(model) * model.num_heads,
        "activations": in_blocks * _activations(model),
        "logits": tokens * model.vocab_size,
        "table updates": in_tables,
        "copies": in_blocks * model.d_model * ATTENTIONS[model.attention].copies,
        "dropout": in_blocks * model.d_model * (model.dropout > 0),
        "optimizer products": matrices * OPTIMIZERS[training.optimizer].products(model),
    }


class Speed(NamedTuple):
    """How fast a machine is.

    Attributes:
        flops_per_second: what `machine.matrix_flops_per_second` measured.
        slower: how many times as long its own runs' steps took as estimated from that alone.
        others: how much of its cores other programs use now; 1 is as much as there is.
    """

    flops_per_second: float = REFERENCE_FLOPS
    slower: float = 1.0
    others: float = 0.0


def run_seconds(config: RunConfig, speed: Speed, validation_tokens: int = 0) -> float:
    """Duration of a whole first run in seconds.

    Args:
        config: vocab_size being known.
        speed: of the machine.
        validation_tokens: length of the text's part that validates.
    """
    costs = _costs(config, speed, validation_tokens)
    return costs.seconds(expected_steps(config, speed, validation_tokens))


def step_seconds(config: RunConfig, speed: Speed) -> float:
    """Duration of one step in seconds. Arguments as above."""
    return _costs(config, speed, 0).step


def expected_steps(config: RunConfig, speed: Speed, validation_tokens: int = 0) -> int:
    """The run's steps; with a budget of seconds, about as many as fit. Arguments as above."""
    training, most = config.training, config.most_steps
    if not training.max_seconds:
        return most
    costs = _costs(config, speed, validation_tokens)
    budget = training.max_seconds + (0.0 if training.count_start else costs.start)
    return max(1, bisect.bisect_right(range(1, most + 1), budget, key=costs.seconds))


class _Costs(NamedTuple):
    """Seconds of the parts of a run."""

    start: float
    end: float
    step: float
    validation: float
    eval_every: int

    def seconds(self, steps: int) -> float:
        """Of a run with so many steps."""
        validations = -(-steps // (self.eval_every or steps))
        return self.start + self.end + steps * self.step + validations * self.validation


def _costs(config: RunConfig, speed: Speed, validation_tokens: int) -> _Costs:
    model, training = config.model, config.training
    seen = model.changed(context_length=config.window_tokens)
    slowness = REFERENCE_FLOPS / speed.flops_per_second
    slower = speed.slower * (1.0 + speed.others)
    seconds = {
        name: slower * STEP_SECONDS[name] * amount * (slowness if name in PRODUCTS else 1.0)
        for name, amount in step_work(seen, training).items()
    }
    per_step = sum(seconds.values())
    per_token = (
        VALIDATION_PART * (per_step - seconds["optimizer products"]) / config.tokens_per_step
    )
    measured = validation_tokens if config.data.task else min(validation_tokens, MEASURED_TOKENS)
    end = END_SECONDS["process"] + END_SECONDS["block"] * model.num_blocks
    once = slowness**0.5 * (1.0 + OTHERS_AT_START * speed.others)
    return _Costs(
        start=_start_seconds(model, training) * once,
        end=end * once,
        step=per_step,
        validation=measured * per_token,
        eval_every=training.eval_every,
    )


def _start_seconds(model: ModelConfig, training: TrainingConfig) -> float:
    """From the process's start to the first step, nothing being compiled yet."""
    attention = ATTENTIONS[model.attention]
    per_block = START_SECONDS["block"] + attention.block_seconds
    per_block += attention.row_seconds * model.context_length
    per_block += OPTIMIZERS[training.optimizer].block_seconds
    per_block += START_SECONDS_PER_BLOCK_WITH_DROPOUT if model.dropout else 0.0
    symbols = START_SECONDS["1,000 symbols"] * model.vocab_size / 1000
    return START_SECONDS["process"] + symbols + per_block * model.num_blocks
