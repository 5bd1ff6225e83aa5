"""Whole training runs under kill -9: each goes on to the bit, redoing at most one interval.

`python -m tests.faults.kills [--kills N] [--seed N]` prints how often it killed and what was
found.
TensorFlow is imported once; every process is forked from there before anything is computed. XLA's
compilation is left out, which would take most of the time and writes nothing.
"""

import argparse
import functools
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_lm.data.corpus import prepare
from keras_lm.keras_file.opening import read_model_file
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage import run_folder
from keras_lm.storage.files import PARTIAL
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training import loop
from keras_lm.training import run as trainer
from keras_lm.training.checkpoint import latest_checkpoint
from keras_lm.training.train_step import CompiledSteps

INTERVAL = 40
CONFIG = RunConfig(
    ModelConfig(context_length=7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5, dropout=0.2),
    DataConfig("alice"),
    TrainingConfig(
        steps=1000,
        batch_size=3,
        gradient_accumulation=2,
        optimizer="muon",
        log_every=10,
        eval_every=0,
        sample_every=0,
        checkpoint_every=INTERVAL,
    ),
)
CLOCK = {"seconds", "train_seconds", "tokens_per_second", "memory_mb"}


def start(folder: RunFolder, corpus) -> int:
    """Forks a process that trains the run on; returns its id."""
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    code = 1
    try:
        sys.stderr = open(os.devnull, "w")
        code = trainer.train(folder, CONFIG, corpus, time.time())
    finally:
        os._exit(code)


def events_of(folder: RunFolder) -> list[dict]:
    """The events without what the clock decides."""
    return [
        {key: value for key, value in event.items() if key not in CLOCK}
        for event in folder.read_events()[0]
    ]


def last_step(folder: RunFolder) -> int:
    """The last step that the run reported."""
    return max((event["step"] for event in folder.read_events()[0]), default=0)


def run(kills: int, root: Path, result: dict[str, int], seed: int = 1) -> None:
    """Kills runs at random until there were so many kills; counts in `result` what it found."""
    loop.CompiledSteps = functools.partial(CompiledSteps, jit_compile=False)
    corpus, moments = prepare(CONFIG.data, CONFIG.model.context_length), random.Random(seed)
    straight = RunFolder(root / "straight")
    straight.create()
    begin = time.monotonic()
    os.waitpid(start(straight, corpus), 0)
    whole = time.monotonic() - begin
    expected = read_model_file(straight.model_file).arrays
    folder = None
    while result["kills"] < kills or folder is not None:
        if folder is None:
            folder = RunFolder(root / f"run-{result['finished']}")
            folder.create()
        child, begin = start(folder, corpus), time.monotonic()
        try:
            if result["kills"] < kills:
                wait(child, moments.uniform(0.3, 0.9) * whole)
                os.kill(child, signal.SIGKILL)
        finally:
            if sys.exc_info()[0]:  # this process is asked to end
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        found, damaged = latest_checkpoint(folder.checkpoints)
        result["bad checkpoints"] += bool(damaged)
        if status & 127:
            result["kills"] += 1
            result["before the first step"] += last_step(folder) == 0
            redone = last_step(folder) - (found.step if found else 0)
            result["lost more than an interval"] += redone > INTERVAL
        elif folder.read_status().get("state") == run_folder.FINISHED:
            result["finished"] += 1
            whole = min(whole, time.monotonic() - begin)
            arrays = read_model_file(folder.model_file).arrays
            same = all(np.array_equal(a, b) for a, b in zip(arrays, expected, strict=True))
            result["left something behind"] += any(folder.path.rglob(f"{PARTIAL}*"))
            result["differ from the straight run"] += not same or events_of(folder) != events_of(
                straight
            )
            folder = None
        else:
            raise RuntimeError(folder.read_status())


def wait(child: int, seconds: float) -> None:
    """Waits, but not longer than the process lives."""
    end = time.monotonic() + seconds
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while time.monotonic() < end and not os.waitid(os.P_PID, child, options):
        time.sleep(0.002)


def main() -> int:
    """Prints the counts, also when it is ended early; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    arguments = parser.parse_args()
    broken = (
        "differ from the straight run",
        "bad checkpoints",
        "lost more than an interval",
        "left something behind",
    )
    result = dict.fromkeys(("kills", "before the first step", "finished", *broken), 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))
    with tempfile.TemporaryDirectory() as root:
        try:
            run(arguments.kills, Path(root), result, arguments.seed)
        finally:
            print(", ".join(f"{value} {key}" for key, value in result.items()), flush=True)
    return int(any(result[key] for key in broken))


if __name__ == "__main__":
    sys.exit(main())
