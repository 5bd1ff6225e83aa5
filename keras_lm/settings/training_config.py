"""How a run trains: steps, batches, optimizer, and what is written on the way."""

import importlib.util
from dataclasses import dataclass
from typing import Any, Self

from keras_lm.settings.checks import Checked, ConfigError, field
from keras_lm.settings.variants import OPTIMIZERS
from keras_lm.system.machine import num_gpus

SCHEDULES = ("cosine", "linear", "trapezoid", "constant")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
WATCHING = "Samples and validation"  # parts of the form
ENDING = "End of the run"
MOST_STEPS = 10_000_000
MULTI_WORKER = "multi-worker"
STRATEGIES = ("none", "mirrored", MULTI_WORKER)
NO_BUDGET = {"max_seconds": 0.0, "max_tokens": 0}


@dataclass(frozen=True)
class TrainingConfig(Checked):
    """How one run trains. A step is one update of the weights.

    Example:
        >>> TrainingConfig(optimizer="muon").optimizer
        'muon'
    """

    steps: int = field(
        1000,
        "Updates of the weights. More is better until it overfits. A budget of seconds or tokens "
        "takes their place.",
        low=1,
        high=MOST_STEPS,
        label="Steps",
        step=100,
        group="Length",
    )
    max_seconds: float = field(
        0.0,
        "A budget of seconds in place of steps: the schedule is planned by the measured pace, so "
        "that validation, samples and saving end on time, too; 0: none.",
        low=0.0,
        high=1e7,
        label="Seconds",
        step=10,
        group=ENDING,
    )
    max_tokens: int = field(
        0,
        "A budget of tokens to train on in place of steps; 0: none. With one of seconds, too, the "
        "run ends with whichever is used up first.",
        low=0,
        high=10**13,
        label="Budget of tokens",
        step=100_000,
        group=ENDING,
    )
    count_start: bool = field(
        True,
        "Whether the budget of seconds includes what comes before the first step: imports and "
        "compilation.",
        label="Count the start",
        group=ENDING,
    )
    patience: int = field(
        0,
        "The run ends early after this many validations in a row without a new lowest loss; 0: "
        "never. The best model is kept: 3 to 10.",
        low=0,
        high=1_000_000,
        label="Patience (validations)",
        step=1,
        group=ENDING,
    )
    batch_size: int = field(
        12,
        "Sequences in one micro-batch. Larger is smoother and slower: 4 to 64.",
        low=1,
        high=4096,
        label="Batch size",
        step=1,
    )
    gradient_accumulation: int = field(
        1,
        "Micro-batches whose gradients are averaged into one update: the effect of a larger batch "
        "in the memory of a small one.",
        low=1,
        high=1024,
        label="Gradient accumulation",
        step=1,
    )
    optimizer: str = field(
        "adamw",
        "How gradients change the weights.",
        choices=OPTIMIZERS,
        label="Optimizer",
    )
    learning_rate: float = field(
        1e-3,
        "Peak size of an update. Too high diverges: 3e-4 to 1e-2.",
        low=1e-7,
        high=1.0,
        label="Learning rate",
        step=1e-4,
    )
    min_learning_rate: float = field(
        1e-5,
        "The learning rate at the end of the decay: 0 to a tenth of the peak.",
        low=0.0,
        high=1.0,
        label="Final learning rate",
        step=1e-5,
    )
    warmup_steps: int = field(
        100,
        "Steps over which the learning rate rises from 0: 20 to 500.",
        low=0,
        high=1_000_000,
        label="Warm-up steps",
        step=10,
    )
    schedule: str = field(
        "cosine",
        "How the learning rate falls after the warm-up: along a cosine, linearly, trapezoid (flat, "
        "then linearly over the last half) or not at all.",
        choices=SCHEDULES,
        label="Schedule",
    )
    weight_decay: float = field(
        0.1,
        "Pull of matrices towards zero, times the learning rate: 0 to 0.1; with muon up to 2, when "
        "a text is read many times.",
        low=0.0,
        high=10.0,
        label="Weight decay",
        step=0.01,
    )
    decay_per_reading: float = field(
        0.0,
        "How much the weight decay grows with each reading of the text, up to 4: a text that is "
        "read often would be learned by heart; 0: it stays as it is, with muon usually 0.2.",
        low=0.0,
        high=10.0,
        label="Growth of the weight decay per reading",
        step=0.05,
    )
    momentum: float = field(
        0.95,
        "Muon's memory of the gradient: 0.9 for short runs, usual 0.95.",
        low=0.0,
        high=0.9999,
        label="Momentum (Muon)",
        step=0.05,
    )
    beta_1: float = field(
        0.9,
        "Adam's memory of the gradient: usual 0.9.",
        low=0.0,
        high=0.9999,
        label="Beta 1",
        step=0.01,
    )
    beta_2: float = field(
        0.99,
        "Adam's memory of the squared gradient: 0.95 to 0.999.",
        low=0.0,
        high=0.99999,
        label="Beta 2",
        step=0.01,
    )
    epsilon: float = field(
        1e-8,
        "Adam's guard against division by zero: usually 1e-8.",
        low=1e-12,
        high=0.1,
        label="Epsilon",
        step=1e-8,
    )
    clip_norm: float = field(
        1.0,
        "Largest norm of all gradients together, against jumps: usually 1; 0: no clipping.",
        low=0.0,
        high=1e6,
        label="Gradient clipping (global norm)",
        step=0.5,
    )
    precision: str = field(
        "auto",
        "auto: mixed_float16 with loss scaling on a GPU, float32 on a CPU. 16 bits save memory and "
        "time on a GPU only.",
        choices=PRECISIONS,
        label="Precision",
    )
    strategy: str = field(
        "none",
        "Where the batch is divided: none: it is not; mirrored: among the GPUs of this machine; "
        "multi-worker: among the processes that TF_CONFIG names, each started by the same command.",
        choices=STRATEGIES,
        offered=STRATEGIES[:2],  # the page starts one process
        label="Several devices" if num_gpus() > 1 else "",
        hidden="" if num_gpus() > 1 else "It divides the batch among GPUs, and here are none.",
    )
    seed: int = field(
        1, "Same seed, same settings: same run.", low=0, high=2_147_483_647, label="Seed", step=1
    )
    deterministic: bool = field(
        False,
        "Only operations that sum in a fixed order: slower on a GPU, but repeats to the bit.",
        label="Deterministic",
    )
    log_every: int = field(
        10,
        "Steps between points of the loss curve.",
        low=1,
        high=1_000_000,
        label="Steps between points of the curve",
        step=10,
        group=WATCHING,
    )
    eval_every: int = field(
        200,
        "Steps between validations; 0: only at the end.",
        low=0,
        high=10_000_000,
        label="Steps between validations",
        step=50,
        group=WATCHING,
    )
    sample_every: int = field(
        200,
        "Steps between samples; 0: none.",
        low=0,
        high=10_000_000,
        label="Steps between samples",
        step=50,
        group=WATCHING,
    )
    sample_prompt: str = field(
        "",
        "What the samples continue; empty: the text's first words.",
        label="Prompt of the samples",
        group=WATCHING,
    )
    sample_tokens: int = field(
        100,
        "Length of a sample in tokens.",
        low=1,
        high=10_000,
        label="Tokens per sample",
        step=20,
        group=WATCHING,
    )
    checkpoint_every: int = field(
        500,
        "Steps between checkpoints to resume from; 0: none.",
        low=0,
        high=10_000_000,
        label="Steps between checkpoints",
        step=100,
        group=WATCHING,
    )
    tensorboard: bool = field(
        False,
        "Writes curves, samples and settings for TensorBoard, too, into the run's folder; it needs "
        "the package tensorboard.",
        label="TensorBoard",
        group=WATCHING,
    )

    lora_rank: int = field(
        0,
        "Of a run that goes on with a model: the rank of LoRA's adapters, which alone learn, with "
        "the rows of tokens that the model did not have: it forgets less and takes less memory. "
        "Usual 4 to 32; 0: all weights are trained.",
        low=0,
        high=1024,
        label="LoRA rank",
        step=4,
        hidden="The form offers it where a run goes on with a model.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_learning_rate > self.learning_rate:
            raise ConfigError(
                f"must not exceed learning_rate, but {self.min_learning_rate} is more than "
                f"{self.learning_rate}: choose at most {self.learning_rate}.",
                "min_learning_rate",
            )
        if self.lora_rank and self.strategy != "none":
            raise ConfigError(
                f"must be none where lora_rank is not 0, but got {self.strategy}: LoRA trains on "
                "one device.",
                "strategy",
            )

    def changed(self, **values: Any) -> Self:
        """The same with other values of some settings; new steps take the place of a budget.

        Example:
            >>> TrainingConfig(max_seconds=60.0).changed(steps=300).max_seconds
            0.0
        """
        return super().changed(**(NO_BUDGET if "steps" in values else {}) | values)

    def check_installed(self) -> None:
        """ConfigError when a setting needs a package that is not installed.

        Example:
            >>> TrainingConfig().check_installed()
        """
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ConfigError(
                "needs the Python package tensorboard, which is not installed: pip install "
                "'keras_lm[tensorboard]', in a clone pip install '.[tensorboard]', or switch it "
                "off.",
                "tensorboard",
            )

    @property
    def unused_lengths(self) -> set[str]:
        """The settings of the run's length that another one replaces.

        Example:
            >>> TrainingConfig(max_seconds=60.0).unused_lengths
            {'steps'}
        """
        if self.max_seconds or self.max_tokens:
            return {"steps"}
        return {*NO_BUDGET, "count_start"}
