"""What a run will take, before it starts: memory and time from its config alone.

Weights are counted exactly; the rest follows from the shapes of what a step keeps, and from how
fast this machine multiplies matrices.
"""

import os
import time

import numpy as np
import psutil

from keras_lm.config import ConfigError, ModelConfig, RunConfig, TrainingConfig

FLOAT_BYTES = 4
PROCESS_BYTES = 900 * 2**20  # Python, TensorFlow and its compiler before the first array
START_SECONDS = 10.0  # imports and compilation
# The part of the peak rate of matrix products that whole training steps reached here (XLA, two
# cores); the rest goes to softmax, norms and the optimizer.
EFFICIENCY = 0.5
MEASURING_SECONDS = 0.05


def memory_bytes(config: RunConfig) -> int:
    """Peak memory of the training process in bytes, vocab_size being known."""
    model, training = config.model, config.training
    weights = model.parameter_count()
    optimizer_copies = 4 if training.optimizer == "adamw" else 3  # weights, gradients, moments
    state = weights * optimizer_copies * FLOAT_BYTES
    tokens = training.batch_size * model.context_length
    return PROCESS_BYTES + state + tokens * _kept_per_token(model) * FLOAT_BYTES


def check_memory(config: RunConfig) -> None:
    """ConfigError when the run needs more memory than this machine has."""
    needed, present = memory_bytes(config), psutil.virtual_memory().total
    if needed > present:
        raise ConfigError(
            f"This run needs about {needed / 2**30:,.1f} GB of memory, but the machine has "
            f"{present / 2**30:,.1f} GB: lower batch_size, context_length, d_model or num_blocks."
        )


def _kept_per_token(model: ModelConfig) -> int:
    """Floats that the forward pass keeps a token for the backward pass."""
    # Attention weights a head: of all tokens before, of the two chunks and the slots, or none.
    weights = {
        "standard": model.context_length,
        "linear": min(model.context_length, 2 * model.chunk_length) + model.num_slots,
        "flash": 2,
    }
    scores = model.num_heads * weights[model.attention]
    inside = model.ffn_dim * (3 if model.activation == "swiglu" else 2)
    return model.num_blocks * (10 * model.d_model + inside + scores) + 3 * model.vocab_size


def training_flops(model: ModelConfig, training: TrainingConfig) -> float:
    """Floating-point operations of one update: forward, backward and optimizer."""
    tokens = training.batch_size * training.gradient_accumulation * model.context_length
    embeddings = model.vocab_size * model.d_model * (0 if model.tie_embeddings else 1)
    multiplied = model.parameter_count() - embeddings
    seen = model.context_length  # the mean over rows is half of it, of two products
    if model.attention == "linear":
        seen = min(seen, 4 * (model.chunk_length + model.num_slots))
    attention = 6 * model.num_blocks * seen * model.d_model
    flops = tokens * (6 * multiplied + attention)
    if training.optimizer == "muon":  # five Newton-Schulz iterations of about 5 d_model a weight
        flops += 5 * 5 * multiplied * model.d_model
    return flops


def run_seconds(config: RunConfig, flops_per_second: float) -> float:
    """Duration of the whole run in seconds on a machine of that matrix-product rate."""
    a_step = training_flops(config.model, config.training) / (EFFICIENCY * flops_per_second)
    return START_SECONDS + config.training.steps * a_step


def matrix_flops_per_second() -> float:
    """The best rate of small matrix products on one core, times the cores; takes MEASURING_SECONDS.

    Small ones run on one core and within a slice of its time, so that other work on the machine
    hardly disturbs the measurement.
    """
    size = 96
    a = np.ones((size, size), "float32")
    product = np.empty_like(a)
    end, seconds = time.perf_counter() + MEASURING_SECONDS, []
    while time.perf_counter() < end:
        begin = time.perf_counter()
        np.matmul(a, a, out=product)
        seconds.append(time.perf_counter() - begin)
    return (os.cpu_count() or 1) * 2 * size**3 / min(seconds)
