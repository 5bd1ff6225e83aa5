"""What a given time teaches: Quick start against a lean PyTorch GPT with nanoGPT's CPU recipe.

    pip install torch==2.13.0
    python -m benchmarks.time_to_loss [--seeds 3] [--texts ...] [--tokenizer char]

The peer has four blocks of 128, a context of 64, 12 windows per step and 2,000 steps of AdamW, 1e-3
to 1e-4. Its time T runs from the start of its process to its validation on all of the text's last
tenth. Then Quick start (with GPT-2's tokens, Word pieces) gets T / 4, T / 3 and T: as many steps as
two short runs promise to fit.
Every run is a process of its own, in turn, import and compilation counted (compiled programs are
kept, as they are for everybody from the second run on; `--cold` gives each run an empty cache).
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.results import Report
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import CACHE_VARIABLE

PROJECT = Path(__file__).resolve().parents[1]
TEXTS = ("sense-and-sensibility", "moby-dick")  # the recipe was tuned on the first
SHAPE = {"context_length": 64, "d_model": 128, "num_heads": 4, "num_blocks": 4, "ffn_dim": 512}
BATCH, STEPS, WARMUP = 12, 2000, 100
PEAK, FLOOR, BETAS, DECAY, CLIP_NORM = 1e-3, 1e-4, (0.9, 0.99), 0.1, 1.0
PRESET = {"char": "quick-start", "gpt2": "word-pieces"}
SHARES = (1 / 4, 1 / 3, 1.0)
SHORT_RUNS = (50, 300)  # steps


def train_peer(data: str, tokenizer: str, seed: int) -> float:
    """Trains the PyTorch GPT in this process; returns its validation loss, nats per token."""
    import torch

    from benchmarks.lean_gpt import LeanGPT, decay_groups, loss_of
    from keras_lm.data import corpus
    from keras_lm.settings.config import DataConfig
    from keras_lm.training.windows import WindowOrder

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(seed)
    text = corpus.prepare(DataConfig(data=data, tokenizer=tokenizer), SHAPE["context_length"])
    model = LeanGPT(SHAPE | {"vocab_size": text.tokenizer.vocab_size})
    parameters = list(model.parameters())
    groups = decay_groups(parameters, DECAY)
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, fused=True)
    tokens = torch.tensor(np.array(text.train), dtype=torch.long)
    order = WindowOrder(len(tokens), SHAPE["context_length"], seed)
    places = torch.arange(SHAPE["context_length"] + 1)
    for step in range(STEPS):
        progress = max(0.0, (step - WARMUP) / (STEPS - WARMUP))
        rate = FLOOR + (PEAK - FLOOR) * 0.5 * (1 + np.cos(np.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARMUP)
        windows = tokens[torch.tensor(order.offsets(step, BATCH))[:, None] + places]
        loss_of(model(windows[:, :-1]), windows[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    validation = torch.tensor(np.array(text.validation), dtype=torch.long)
    total = 0.0
    with torch.no_grad():
        for inputs, targets in windows_of(validation):
            total += loss_of(model(inputs), targets).item() * targets.numel()
    return total / (len(validation) - 1)


def windows_of(tokens):
    """All of a text in windows, each token predicted once: (batch, length) inputs and targets."""
    length = SHAPE["context_length"]
    whole = (len(tokens) - 1) // length
    inputs = tokens[: whole * length].reshape(whole, length)
    targets = tokens[1 : whole * length + 1].reshape(whole, length)
    yield from zip(inputs.split(BATCH), targets.split(BATCH), strict=True)
    if rest := (len(tokens) - 1) % length:
        yield tokens[-rest - 1 : -1][None], tokens[-rest:][None]


def time_peer(data: str, tokenizer: str, seed: int) -> tuple[float, float]:
    """Seconds and validation loss of the peer, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.time_to_loss", "--peer", data, tokenizer, str(seed)]
    begin = time.monotonic()
    shown = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    return time.monotonic() - begin, json.loads(shown.stdout.splitlines()[-1])


def run_quick_start(flags: list[str], steps: int, cold: bool = False) -> tuple[float, list[dict]]:
    """Seconds of Quick start with so many steps and some flags, and what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--eval-every=0", "--sample-every=0", "--checkpoint-every=0", f"--steps={steps}"]
        environment = os.environ | ({CACHE_VARIABLE: f"{folder}/cache"} if cold else {})
        begin = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "keras_lm", "train", *words, *flags, f"--run-dir={folder}/run"],
            cwd=PROJECT,
            env=environment,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.monotonic() - begin
        return seconds, RunFolder(f"{folder}/run").read_events()[0]


def time_quick_start(flags: list[str], steps: int, cold: bool = False) -> tuple[float, float]:
    """Seconds and validation loss."""
    seconds, events = run_quick_start(flags, steps, cold)
    return seconds, events[-1]["val_loss"]


@dataclasses.dataclass
class Pace:
    """How long Quick start takes: start and end together, and one step, in seconds."""

    start: float
    step: float

    @classmethod
    def measure(cls, flags: list[str], cold: bool = False) -> "Pace":
        """From two short runs; one before them fills the cache."""
        few, many = SHORT_RUNS
        if not cold:
            time_quick_start(flags, few)
        first, second = (time_quick_start(flags, n, cold)[0] for n in SHORT_RUNS)
        step = (second - first) / (many - few)
        return cls(first - few * step, step)

    def steps_in(self, seconds: float) -> int:
        """How many steps fit."""
        return max(1, int((seconds - self.start) / self.step))


def main() -> None:
    """Prints a row per run, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", nargs="*", default=TEXTS)
    parser.add_argument("--tokenizer", default="char", choices=PRESET)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        data, tokenizer, seed = arguments.peer
        print(json.dumps(train_peer(data, tokenizer, int(seed))))
        return
    tokenizer, cold = arguments.tokenizer, arguments.cold
    for data in arguments.texts:
        table = Report(f"Time to loss, {data}, {tokenizer}{', empty cache' if cold else ''}")
        table.line(
            "| run | steps | seconds | of the peer's time | validation loss | below the peer |"
        )
        table.line("|---" * 6 + "|")
        below = {share: [] for share in SHARES}
        for seed in range(1, arguments.seeds + 1):
            limit, peer_loss = time_peer(data, tokenizer, seed)
            table.line(f"| PyTorch, seed {seed} | {STEPS:,} | {limit:.1f} | | {peer_loss:.3f} | |")
            flags = [f"--preset={PRESET[tokenizer]}", f"--data={data}", f"--seed={seed}"]
            pace = Pace.measure(flags, cold)
            for share in SHARES:
                steps = pace.steps_in(share * limit)
                seconds, loss = time_quick_start(flags, steps, cold)
                below[share].append(peer_loss - loss)
                table.line(
                    f"| Quick start, seed {seed} | {steps:,} | {seconds:.1f} | "
                    f"{seconds / limit:.2f} | {loss:.3f} | {peer_loss - loss:.3f} |"
                )
        for share, differences in below.items():
            median = statistics.median(differences)
            table.line(f"| median, {share:.2f} of T | | | | | {median:.3f} |")
        table.write()


if __name__ == "__main__":
    main()
