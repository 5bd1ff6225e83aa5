"""Measurements in turn, each in a process of its own, so that none finds what another left."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def in_new_process(module: str, *words: str) -> dict:
    """The JSON object that `python -m benchmarks.MODULE --measure WORDS` prints last."""
    command = [sys.executable, "-m", f"benchmarks.{module}", "--measure", *words]
    told = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(told.stdout.splitlines()[-1])


def in_turn(module: str, names: list[str], shape: str, rounds: int) -> dict[str, list[dict]]:
    """A row a round for each name, measured one after the other, round by round."""
    rows = {name: [] for name in names}
    for round_number in range(1, rounds + 1):
        for name in names:
            rows[name].append(in_new_process(module, name, shape))
            print(f"{shape}, round {round_number}, {name}: {rows[name][-1]}", file=sys.stderr)
    return rows


def median(rows: list[dict], column: str) -> float:
    """Over the rounds."""
    return statistics.median(row[column] for row in rows)


def median_ratio(rows: list[dict], others: list[dict], column: str) -> float:
    """Over the rounds, of measurements of the same round."""
    return statistics.median(
        row[column] / other[column] for row, other in zip(rows, others, strict=True)
    )
