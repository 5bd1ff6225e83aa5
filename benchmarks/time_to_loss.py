"""What a given time teaches: Quick start against a lean PyTorch GPT and against its earlier recipe.

    pip install torch==2.13.0
    python -m benchmarks.time_to_loss [--seeds 3] [--texts ...]

The peer has nanoGPT's recipe for a CPU: characters, four blocks of 128, a context of 64, 12 windows
per step and 2,000 steps of AdamW, 1e-3 to 1e-4. The earlier recipe reads characters, too, in 2,000
steps. Quick start gets parts of what each of them takes from the start of its process to its
validation, as a budget of seconds. All are compared in bits per byte of the text's last tenth.
Every run is a process of its own, in turn, import and compilation counted (compiled programs are
kept, as they are for everybody from the second run on).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_lm.storage.run_folder import RunFolder

PROJECT = Path(__file__).resolve().parents[1]
TEXTS = ("sense-and-sensibility", "moby-dick", "shakespeare")  # nothing was tuned on the last
SHAPE = {"context_length": 64, "d_model": 128, "num_heads": 4, "num_blocks": 4, "ffn_dim": 512}
BATCH, STEPS, WARMUP = 12, 2000, 100
PEAK, FLOOR, BETAS, DECAY, CLIP_NORM = 1e-3, 1e-4, (0.9, 0.99), 0.1, 1.0
EARLIER = ("--tokenizer=char", "--weight-decay=0.01", "--decay-per-reading=0", "--steps=2000")
SHARES = {"PyTorch": (1 / 7,), "earlier recipe": (1 / 2, 1.0)}


def train_peer(data: str, seed: int, order: str) -> float:
    """Trains the PyTorch GPT in this process; returns its bits per byte of validation.

    Args:
        data: which text.
        seed: of its weights.
        order: the file with where its windows begin, (STEPS, BATCH).
    """
    import torch

    from benchmarks.lean_gpt import LeanGPT, decay_groups, loss_of
    from keras_lm.data import corpus
    from keras_lm.settings.config import DataConfig

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(seed)
    text = corpus.prepare(DataConfig(data=data, tokenizer="char"), SHAPE["context_length"])
    model = LeanGPT(SHAPE | {"vocab_size": text.tokenizer.vocab_size})
    parameters = list(model.parameters())
    groups = decay_groups(parameters, DECAY)
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, fused=True)
    tokens = torch.tensor(np.array(text.train), dtype=torch.long)
    offsets = np.load(order)
    places = torch.arange(SHAPE["context_length"] + 1)
    for step in range(STEPS):
        progress = max(0.0, (step - WARMUP) / (STEPS - WARMUP))
        rate = FLOOR + (PEAK - FLOOR) * 0.5 * (1 + np.cos(np.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARMUP)
        windows = tokens[torch.tensor(offsets[step])[:, None] + places]
        loss_of(model(windows[:, :-1]), windows[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    validation = torch.tensor(np.array(text.validation), dtype=torch.long)
    total = 0.0
    with torch.no_grad():
        for inputs, targets in windows_of(validation):
            total += loss_of(model(inputs), targets).item() * targets.numel()
    return text.validation_bits_per_byte(total / (len(validation) - 1))


def windows_of(tokens):
    """All of a text in windows, each token predicted once: (batch, length) inputs and targets."""
    length = SHAPE["context_length"]
    whole = (len(tokens) - 1) // length
    inputs = tokens[: whole * length].reshape(whole, length)
    targets = tokens[1 : whole * length + 1].reshape(whole, length)
    yield from zip(inputs.split(BATCH), targets.split(BATCH), strict=True)
    if rest := (len(tokens) - 1) % length:
        yield tokens[-rest - 1 : -1][None], tokens[-rest:][None]


def time_peer(data: str, seed: int) -> tuple[float, float]:
    """Seconds of the peer and its bits per byte, in a process of its own, without TensorFlow."""
    from keras_lm.data import corpus
    from keras_lm.settings.config import DataConfig
    from keras_lm.training.windows import WindowOrder

    length = SHAPE["context_length"]
    text = corpus.prepare(DataConfig(data=data, tokenizer="char"), length)
    order = WindowOrder(len(text.train), length, seed)
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/order.npy"
        np.save(file, np.stack([order.offsets(step, BATCH) for step in range(STEPS)]))
        words = [sys.executable, "-m", "benchmarks.time_to_loss", "--peer", data, str(seed), file]
        begin = time.monotonic()
        shown = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
        return time.monotonic() - begin, json.loads(shown.stdout.splitlines()[-1])


def run_quick_start(flags: Sequence[str]) -> tuple[float, list[dict]]:
    """Seconds of Quick start with some flags, and what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--eval-every=0", "--sample-every=0", "--checkpoint-every=0", *flags]
        begin = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "keras_lm", "train", *words, f"--run-dir={folder}/run"],
            cwd=PROJECT,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return time.monotonic() - begin, RunFolder(f"{folder}/run").read_events()[0]


def time_quick_start(flags: Sequence[str]) -> tuple[float, float]:
    """Seconds and bits per byte of validation."""
    seconds, events = run_quick_start(flags)
    return seconds, [e["val_bits_per_byte"] for e in events if "val_bits_per_byte" in e][-1]


def compare(data: str, seeds: int) -> None:
    """Prints a row per run, and the medians."""
    from benchmarks.results import Report  # Pandas, which the peer need not load

    table = Report(f"Time to loss, {data}")
    table.line("| run | seconds | bits per byte | of whose | beside it |")
    table.line("|---" * 5 + "|")
    found = {(name, share): [] for name, shares in SHARES.items() for share in shares}
    for seed in range(1, seeds + 1):
        flags = [f"--data={data}", f"--seed={seed}"]
        for recipe in (EARLIER, ()):  # their programs are kept from now on
            run_quick_start([*flags, *recipe, "--steps=20"])
        others = {
            "PyTorch": time_peer(data, seed),
            "earlier recipe": time_quick_start([*flags, *EARLIER]),
        }
        for name, (seconds, bits) in others.items():
            table.line(f"| {name}, seed {seed} | {seconds:.1f} | {bits:.3f} | | |")
        for name, share in found:
            limit, other = others[name]
            seconds, bits = time_quick_start([*flags, f"--max-seconds={share * limit:.2f}"])
            found[name, share].append((seconds / limit, bits / other))
            table.line(
                f"| Quick start, seed {seed} | {seconds:.1f} | {bits:.3f} | "
                f"{seconds / limit:.2f} of {name}'s | {bits / other:.3f} |"
            )
    for (name, _), runs in found.items():
        share, bits = map(statistics.median, zip(*runs, strict=True))
        table.line(f"| median, {share:.2f} of {name}'s time | | | | {bits:.3f} |")
    table.write()


def main() -> None:
    """Prints a table per text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", nargs="*", default=TEXTS)
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        data, seed, order = arguments.peer
        print(json.dumps(train_peer(data, int(seed), order)))
        return
    for data in arguments.texts:
        compare(data, arguments.seeds)


if __name__ == "__main__":
    main()
