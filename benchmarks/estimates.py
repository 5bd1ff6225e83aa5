"""The card before Start against the truth: memory and time of varied runs, estimated and measured.

    python -m benchmarks.estimates [--beside]

Every run is the command line in a process of its own, with an empty cache of compiled programs, its
validations and samples included; its memory is the most that the process held. From the second run
on, the runs before correct the estimate, as on the page. `--beside`: beside another run.
"""

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import Report
from keras_lm.data import corpus
from keras_lm.runs.own_pace import slot_speed
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings import estimates
from keras_lm.settings.presets import PRESETS
from keras_lm.storage.run_names import new_run_id
from keras_lm.system import machine
from keras_lm.system.paths import CACHE_VARIABLE

PROJECT = Path(__file__).resolve().parents[1]
TRAIN = (sys.executable, "-m", "keras_lm", "train")
OTHERS_START = 30.0  # seconds, until another run trains
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


def measure(root: Path, preset: str, *changes: dict) -> tuple[float, float]:
    """Seconds and most bytes of one run, which is left below `root`."""
    flags = {name: value for part in changes for name, value in part.items()}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    with tempfile.TemporaryDirectory() as cache:
        begin = time.monotonic()
        process = subprocess.Popen(
            [*TRAIN, "--preset", preset, *words, "--run-dir", str(root / new_run_id())],
            cwd=PROJECT,
            env=os.environ | {CACHE_VARIABLE: cache},
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"A run failed: {words}")
        return time.monotonic() - begin, used.ru_maxrss * 1024


@contextlib.contextmanager
def another_run(wanted: bool) -> Iterator[None]:
    """Trains something else in the meantime, if that is wanted."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--max-seconds=0", "--steps=1000000", f"--run-dir={folder}/other"]
        process = wanted and subprocess.Popen(
            [*TRAIN, *words], cwd=PROJECT, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(OTHERS_START if wanted else 0)
            yield
        finally:
            if process:
                process.kill()
                process.wait()


def compare(table: Report, root: Path) -> None:
    """Adds a row per run."""
    flops_per_second = machine.matrix_flops_per_second()
    for preset, *changes in RUNS:
        base = PRESETS[preset]
        parts = zip((base.model, base.data, base.training), changes, strict=True)
        model, data, training = (part.changed(**change) for part, change in parts)
        config = dataclasses.replace(base, model=model, data=data, training=training)
        text = corpus.prepare(data, model.context_length)
        config = config.with_vocab_size(text.tokenizer.vocab_size)
        speed = slot_speed(flops_per_second, Supervisor(root).summaries())
        seconds = estimates.run_seconds(config, speed, len(text.validation))
        guess = seconds, estimates.memory_bytes(config)
        seconds, most_bytes = measure(root, preset, *changes)
        shown = ", ".join(f"{name} {value}" for part in changes for name, value in part.items())
        table.line(
            f"| {preset}: {shown} | {most_bytes / 1e6:,.0f} | {guess[1] / 1e6:,.0f} | "
            f"{guess[1] / most_bytes:.2f} | {seconds:.0f} | {guess[0]:.0f} | "
            f"{guess[0] / seconds:.2f} |"
        )


def main() -> None:
    """Prints a row per run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", action="store_true")
    beside = parser.parse_args().beside
    table = Report("Estimates" + " beside another run" * beside)
    table.line("| run | memory, MB | estimated | ratio | seconds | estimated | ratio |")
    table.line("|---" * 7 + "|")
    with tempfile.TemporaryDirectory() as root, another_run(beside):
        compare(table, Path(root))
    table.write()


if __name__ == "__main__":
    main()
