"""What the two races of tasks to start from show: the part of held-out answers that are all right.

    python -m benchmarks.task_races [--seeds 3] [--races attentions positions]

The attentions recall over a growing distance; the positions recall more than they were trained on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results import Report

PROJECT = Path(__file__).resolve().parents[1]
RECIPE = "--preset=task --data=task:recall --steps=1000 --eval-every=0 --sample-every=0".split()
# What varies, what all runs of the table share, and the lengths, one per row.
RACES = {
    "attentions": (
        "attention=standard,flash,linear",
        ("--chunk-length=8",),
        ("--task-length", (6, 12, 24)),
    ),
    "positions": (
        "positions=rotary,learned",
        ("--task-length=12",),
        ("--task-test-length", (12, 13, 16, 24)),
    ),
}


def race(vary: str, seeds: int, flags: list[str]) -> dict[str, dict]:
    """Each value that varies, and what its runs reached: the mean over seeds and the spread."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "keras_lm", "race", *RECIPE, *flags]
            + [f"--vary={vary}", f"--seeds={','.join(map(str, range(1, seeds + 1)))}"]
            + [f"--race-dir={folder}/race"],
            cwd=PROJECT,
            check=True,
        )
        result = json.loads(Path(folder, "race", "result.json").read_text())
    return {entry["name"].split("=")[1]: entry["task_accuracy"] for entry in result["entries"]}


def main() -> None:
    """Prints a table per race."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="at least two")
    parser.add_argument("--races", nargs="+", choices=RACES, default=[*RACES])
    chosen = parser.parse_args()
    if chosen.seeds < 2:
        parser.error(f"--seeds must be at least 2, but got {chosen.seeds}")
    for name in chosen.races:
        vary, shared, (flag, lengths) = RACES[name]
        table = Report(f"Recall: {name}")
        for length in lengths:
            found = race(vary, chosen.seeds, [*shared, f"{flag}={length}"])
            if not table.lines:
                table.line(f"| {flag} | " + " | ".join(found) + " |")
                table.line("|---" * (1 + len(found)) + "|")
            cells = (f"{100 * a['mean']:.1f} ± {100 * a['sd']:.1f}" for a in found.values())
            table.line(f"| {length} | " + " | ".join(cells) + " |")
        table.write()


if __name__ == "__main__":
    main()
