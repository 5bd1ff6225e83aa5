"""The card before Start against the truth: memory and time of varied runs, estimated and measured.

    python -m benchmarks.estimates

Every run is the command line in a process of its own, with an empty cache of compiled programs, its
validations and samples included; its memory is the most that the process held.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import Report
from keras_lm.data import corpus
from keras_lm.settings import estimates
from keras_lm.settings.presets import PRESETS
from keras_lm.system import machine
from keras_lm.system.paths import CACHE_VARIABLE

PROJECT = Path(__file__).resolve().parents[1]
# Preset, changes of the model, of the text and of the training.
RUNS = (
    ("quick-start", {}, {}, {"steps": 2000}),
    ("quick-start", {}, {"data": "alice"}, {"steps": 600, "optimizer": "adamw"}),
    ("quick-start", {"context_length": 256, "num_heads": 8}, {"data": "moby-dick"}, {"steps": 300}),
    ("quick-start", {"d_model": 320, "num_heads": 5, "ffn_dim": 1280}, {}, {"steps": 100}),
    ("quick-start", {"d_model": 64, "ffn_dim": 192, "num_blocks": 3}, {}, {"steps": 1500}),
    ("quick-start", {}, {"data": "moby-dick", "tokenizer": "gpt2"}, {"steps": 200}),
    (
        "quick-start",
        {"num_blocks": 8, "activation": "relu2"},
        {},
        {"steps": 150, "gradient_accumulation": 3},
    ),
    (
        "quick-start",
        {"context_length": 512, "attention": "flash"},
        {},
        {"steps": 200, "batch_size": 4},
    ),
    (
        "quick-start",
        {"context_length": 2048, "attention": "linear"},
        {},
        {"steps": 60, "batch_size": 2},
    ),
    ("original", {}, {}, {"steps": 200}),
)


def measure(preset: str, *changes: dict) -> tuple[float, float]:
    """Seconds and most bytes of one run."""
    flags = {name: value for part in changes for name, value in part.items()}
    with tempfile.TemporaryDirectory() as folder:
        words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        begin = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_lm", "train", "--preset", preset, *words]
            + ["--run-dir", f"{folder}/run"],
            cwd=PROJECT,
            env=os.environ | {CACHE_VARIABLE: f"{folder}/cache"},
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"A run failed: {words}")
        return time.monotonic() - begin, used.ru_maxrss * 1024


def main() -> None:
    """Prints a row per run."""
    table = Report("Estimates")
    table.line("| run | memory, MB | estimated | ratio | seconds | estimated | ratio |")
    table.line("|---" * 7 + "|")
    speed = estimates.Speed(machine.matrix_flops_per_second())
    for preset, *changes in RUNS:
        base = PRESETS[preset]
        parts = zip((base.model, base.data, base.training), changes, strict=True)
        model, data, training = (part.changed(**change) for part, change in parts)
        config = dataclasses.replace(base, model=model, data=data, training=training)
        text = corpus.prepare(data, model.context_length)
        config = config.with_vocab_size(text.tokenizer.vocab_size)
        seconds = estimates.run_seconds(config, speed, len(text.validation))
        guess = seconds, estimates.memory_bytes(config)
        seconds, most_bytes = measure(preset, *changes)
        shown = ", ".join(f"{name} {value}" for part in changes for name, value in part.items())
        table.line(
            f"| {preset}: {shown} | {most_bytes / 1e6:,.0f} | {guess[1] / 1e6:,.0f} | "
            f"{guess[1] / most_bytes:.2f} | {seconds:.0f} | {guess[0]:.0f} | "
            f"{guess[0] / seconds:.2f} |"
        )
    table.write()


if __name__ == "__main__":
    main()
