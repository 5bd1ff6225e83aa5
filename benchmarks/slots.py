"""Two runs at once in two slots, beside one run that has one core to itself.

    python -m benchmarks.slots --rounds 3

Each round trains the same run alone on one core (as `taskset` would), and then twice at once
through the page's queue, with two slots on two cores. The pace of a run is what its own curve says
between its first and its last point, so that starting and compiling do not count. It passes at 0.85
of the lone run's pace for each. Nothing else may run on the machine meanwhile.
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

from benchmarks.turns import PROJECT
from keras_lm.runs.slots import SLOTS_VARIABLE
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.config import RunConfig
from keras_lm.settings.presets import QUICK_START
from keras_lm.storage.run_folder import FINISHED, RunFolder

LEAST = 0.85  # of the pace of a run that has one core to itself
CORES = 2
SETTINGS = {"max_seconds": 0.0, "eval_every": 0, "sample_every": 0, "checkpoint_every": 0}


def config(steps: int) -> RunConfig:
    """Quick start for so many steps, with ten points and nothing but training."""
    training = QUICK_START.training.changed(steps=steps, log_every=steps // 10, **SETTINGS)
    return dataclasses.replace(QUICK_START, training=training)


def points(folder: RunFolder) -> list[dict]:
    """The points of a finished run's curve."""
    state = folder.read_status().get("state")
    if state != FINISHED:
        raise RuntimeError(f"{folder.path}: {state}. {folder.log_tail()}")
    return [event for event in folder.read_events()[0] if event["kind"] == "metrics"]


def pace(found: list[dict]) -> float:
    """Tokens per second between the first and the last point."""
    first, last = found[0], found[-1]
    return (last["tokens"] - first["tokens"]) / (last["train_seconds"] - first["train_seconds"])


def train_at_once(root: Path, steps: int, count: int, cores: int) -> list[dict]:
    """Trains runs at once through the queue, on so many cores; a row per run."""
    program = (
        "import sys, pathlib; from benchmarks.slots import start_all; "
        "start_all(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))"
    )
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    subprocess.run(
        [sys.executable, "-c", program, str(root), str(steps), str(count)],
        cwd=PROJECT,
        env=os.environ | {SLOTS_VARIABLE: str(count)},
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        check=True,
    )
    folders = [RunFolder(path.parent) for path in sorted(root.glob("*/events.jsonl"))]
    return [
        {"pace": pace(found := points(folder)), "loss": found[-1]["loss"]} for folder in folders
    ]


def start_all(root: Path, steps: int, count: int) -> None:
    """Starts the runs as the page does, and waits for their ends."""
    supervisor = Supervisor(root)
    runs = [supervisor.start(config(steps)) for _ in range(count)]
    while any(summary.is_active for run in runs if (summary := supervisor.summary(run))):
        time.sleep(0.5)


def main() -> None:
    """Prints a row per round, and the medians as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    if len(os.sched_getaffinity(0)) < CORES:
        sys.exit(f"This needs {CORES} cores.")
    ratios, losses = [], set()
    for round_number in range(1, arguments.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (alone,) = train_at_once(root / "alone", arguments.steps, 1, 1)
            both = train_at_once(root / "both", arguments.steps, CORES, CORES)
        ratios.append([row["pace"] / alone["pace"] for row in both])
        losses |= {row["loss"] for row in (alone, *both)}
        shown = ", ".join(f"{row['pace']:,.0f}" for row in both)
        print(
            f"round {round_number}: alone {alone['pace']:,.0f} tokens per second; at once {shown}: "
            f"{', '.join(f'{ratio:.2f}' for ratio in ratios[-1])}",
            file=sys.stderr,
        )
    least = [min(row) for row in ratios]
    result = {"slower of two, of one alone": statistics.median(least), "passes at": LEAST}
    print(json.dumps(result | {"rounds": least, "losses": sorted(losses)}))


if __name__ == "__main__":
    main()
