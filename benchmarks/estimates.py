"""The card before Start against the truth: memory and time of varied runs, estimated and measured.

    python -m benchmarks.estimates

Every run is the command line in a process of its own. Its time is that of a run of STEPS steps with
its validations and samples; its memory is the most that the process held.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from keras_lm import corpus, estimates
from keras_lm.presets import PRESETS

PROJECT = Path(__file__).resolve().parents[1]
# Preset, changes of the model, of the text and of the training.
RUNS = (
    ("quick-start", {}, {}, {"steps": 600}),
    ("quick-start", {}, {"data": "alice"}, {"steps": 600, "optimizer": "adamw"}),
    ("quick-start", {"context_length": 256, "num_heads": 8}, {}, {"steps": 200}),
    ("quick-start", {"d_model": 384, "num_heads": 6, "ffn_dim": 1536}, {}, {"steps": 60}),
    ("quick-start", {"d_model": 64, "ffn_dim": 256, "num_blocks": 2}, {}, {"steps": 2000}),
    ("quick-start", {}, {"tokenizer": "gpt2"}, {"steps": 200}),
    ("quick-start", {"num_blocks": 12}, {}, {"steps": 200, "gradient_accumulation": 2}),
    ("quick-start", {"context_length": 1024, "attention": "flash"}, {}, {"steps": 50}),
    ("quick-start", {"context_length": 1024, "attention": "linear"}, {}, {"steps": 50}),
    ("original", {}, {}, {"steps": 100}),
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
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"A run failed: {words}")
        return time.monotonic() - begin, used.ru_maxrss * 1024


def main() -> None:
    """Prints a row a run."""
    print(
        "| run | memory, MB | estimated | ratio | seconds | estimated | ratio |\n"
        + "|---" * 7
        + "|"
    )
    speed = estimates.matrix_flops_per_second()
    for preset, *changes in RUNS:
        parts = [PRESETS[preset].model, PRESETS[preset].data, PRESETS[preset].training]
        model, data, training = (
            dataclasses.replace(part, **change) for part, change in zip(parts, changes, strict=True)
        )
        config = dataclasses.replace(PRESETS[preset], model=model, data=data, training=training)
        text = corpus.prepare(data, model.context_length)
        config = config.with_vocab_size(text.tokenizer.vocab_size)
        seconds = estimates.run_seconds(config, speed, len(text.validation))
        guess = seconds, estimates.memory_bytes(config)
        seconds, most_bytes = measure(preset, *changes)
        told = ", ".join(f"{name} {value}" for part in changes for name, value in part.items())
        print(
            f"| {preset}: {told} | {most_bytes / 1e6:,.0f} | {guess[1] / 1e6:,.0f} | "
            f"{guess[1] / most_bytes:.2f} | {seconds:.0f} | {guess[0]:.0f} | "
            f"{guess[0] / seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
