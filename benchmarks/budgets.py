"""What each preset by time teaches: bits per byte of validation after its whole budget.

    python -m benchmarks.budgets [--presets quick-start] [--texts alice FILE] [--seeds 3] [--table]

Every run is the command line in a process of its own, from import to validation, which is measured
at its end alone, without samples and checkpoints; every result is a row of `budgets.csv` at once.
What is there for this device is not done again: remove its rows when the preset has changed. Leave
the machine alone. `--table` prints the table alone.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.results import Report, Rows
from benchmarks.time_to_loss import TEXTS, run_quick_start
from keras_lm.settings.presets import PRESETS

COLUMNS = ("preset", "text", "seed", "seconds", "steps", "bits_per_byte")
ROWS = Rows(Path(__file__).with_name("budgets.csv"), COLUMNS)
BY_TIME = [name for name, preset in PRESETS.items() if preset.training.max_seconds]


def measure(preset: str, text: str, seed: int) -> tuple[float, int, float]:
    """Seconds of the process, steps, bits per byte of one run."""
    flags = [f"--preset={preset}", f"--data={text}", f"--seed={seed}"]
    seconds, events = run_quick_start(flags)
    return round(seconds, 1), events[-1]["step"], round(events[-1]["val_bits_per_byte"], 4)


def table(rows: pd.DataFrame) -> None:
    """Prints a row per preset and text: means over seeds, and their standard deviation."""
    report = Report("Presets by time")
    report.line("| preset | text | runs | seconds | steps | bits per byte |")
    report.line("|---" * 6 + "|")
    for (preset, text), runs in rows.groupby(["preset", "text"], sort=False):
        bits = runs.bits_per_byte
        spread = f" ± {bits.std():.3f}" * (len(runs) > 1)
        report.line(
            f"| {preset} | {text} | {len(runs)} | {runs.seconds.mean():.0f} | "
            f"{runs.steps.mean():,.0f} | {bits.mean():.3f}{spread} |"
        )
    report.write()


def main() -> None:
    """Measures what is missing, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="*", default=BY_TIME)
    parser.add_argument("--texts", nargs="*", default=TEXTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    done = {tuple(row) for row in ROWS.read()[[*COLUMNS[:3]]].to_numpy()}
    for seed in range(1, 1 if arguments.table else arguments.seeds + 1):
        for preset in arguments.presets:
            for text in arguments.texts:
                run = (preset, Path(text).stem, seed)
                if run not in done:
                    ROWS.keep(*run, *measure(preset, text, seed))
    table(ROWS.read())


if __name__ == "__main__":
    main()
