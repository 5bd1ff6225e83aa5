"""Fits the times in `keras_lm/settings/estimates.py` to runs that were made on this machine.

    python -m benchmarks.fit_estimates RUN_FOLDER...

Each run gives two equations: the seconds per step, and the seconds before its first step. Least
squares of relative errors, no constant below 0. The runs must differ in what the constants stand
for (sizes, attention, dropout, optimizer), have been alone on the machine, and have had an empty
cache (KERAS_LM_CACHE). Memory is not fitted: the peak is not in the events; for that,
`benchmarks.estimates` measures. Each fit is printed with its largest relative error, over the runs
that it was fitted to and over runs that were left out in turn.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from keras_lm.settings import estimates
from keras_lm.settings.config import RunConfig
from keras_lm.settings.variants import ATTENTIONS, OPTIMIZERS
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system import machine


def step_equation(folder: RunFolder, slowness: float) -> tuple[dict[str, float], float]:
    """What a step of the run does, by constant, in the reference machine's work; its seconds."""
    config = RunConfig.from_dict(folder.read_config())
    first, *_, last = metrics(folder)
    seconds = (last["train_seconds"] - first["train_seconds"]) / (last["step"] - first["step"])
    work = estimates.step_work(config.model, config.training)
    scales = {name: slowness if name in estimates.PRODUCTS else 1.0 for name in work}
    return {name: amount * scales[name] for name, amount in work.items()}, seconds


def start_equation(folder: RunFolder, slowness: float) -> tuple[dict[str, float], float]:
    """What the run's start does, by constant; its seconds on the reference machine."""
    config = RunConfig.from_dict(folder.read_config())
    model, blocks = config.model, config.model.num_blocks
    work = {
        "process": 1.0,
        "block": blocks,
        "1,000 symbols": model.vocab_size / 1000,
        "dropout": blocks * (model.dropout > 0),
    }
    for name, entry in OPTIMIZERS.items():
        work[name] = blocks * (config.training.optimizer == name) * (entry.block_seconds > 0)
    for name, entry in ATTENTIONS.items():  # its block_seconds or row_seconds
        unit = model.context_length if entry.row_seconds else 1
        work[name] = blocks * unit * (model.attention == name)
    first = metrics(folder)[0]
    return work, (first["seconds"] - first["train_seconds"]) / slowness**0.5


def metrics(folder: RunFolder) -> list[dict]:
    """The run's events of metrics, at least two."""
    events = [event for event in folder.read_events()[0] if event["kind"] == "metrics"]
    if len(events) < 2:
        sys.exit(f"Expected two points of a curve or more in {folder.path}, got {len(events)}.")
    return events


def fit(equations: list[tuple[dict[str, float], float]]) -> dict[str, float]:
    """The constants, by name, under which the equations hold best; without those nothing needs."""
    names = [name for name in equations[0][0] if any(work[name] for work, _ in equations)]
    if len(equations) <= len(names):
        sys.exit(f"Expected more than {len(names)} runs, one per constant, got {len(equations)}.")
    # (runs, constants): each row divided by the run's seconds, so that relative errors count.
    rows = np.array([[work[name] / seconds for name in names] for work, seconds in equations])
    sizes = rows.max(axis=0)  # floats and operations differ by a factor of 1e12
    constants = nnls(rows / sizes, np.ones(len(rows)))[0] / sizes
    return dict(zip(names, constants.tolist(), strict=True))


def error(constants: dict[str, float], work: dict[str, float], seconds: float) -> float:
    """By what part of the measured seconds the estimate is off."""
    return abs(sum(value * work[name] for name, value in constants.items()) / seconds - 1)


def show(title: str, equations: list[tuple[dict[str, float], float]]) -> None:
    """Prints the constants of one fit and its errors."""
    constants = fit(equations)
    print(title)
    for name, value in constants.items():
        print(f'    "{name}": {value:.3g},')
    print(f"  largest error: {max(error(constants, *row) for row in equations):.0%}", end="")
    if len(equations) > len(constants) + 1:
        others = [equations[:i] + equations[i + 1 :] for i in range(len(equations))]
        left_out = [error(fit(o), *row) for o, row in zip(others, equations, strict=True)]
        print(f"; of a run that was left out: {max(left_out):.0%}", end="")
    print()


def main() -> None:
    """Fits both groups of constants to the runs that the command line names."""
    folders = [RunFolder(Path(name)) for name in sys.argv[1:]]
    if not folders:
        sys.exit("Expected folders of runs, got none: name some, such as runs/2026*.")
    slowness = estimates.REFERENCE_FLOPS / machine.matrix_flops_per_second()
    print(f"This machine multiplies matrices {1 / slowness:.2f} times as fast as the reference.")
    show("STEP_SECONDS", [step_equation(folder, slowness) for folder in folders])
    show(
        "START_SECONDS and what stands beside it",
        [start_equation(folder, slowness) for folder in folders],
    )


if __name__ == "__main__":
    main()
