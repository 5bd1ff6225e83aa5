"""Measurements in turn, each in a process of its own, so that none finds what another left."""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def in_new_process(module: str, *words: str) -> dict:
    """The JSON object that `python -m benchmarks.MODULE --measure WORDS` prints last."""
    command = _command(module, *words)
    shown = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(shown.stdout.splitlines()[-1])


def _command(module: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{module}", "--measure", *words]


def in_turn(module: str, names: list[str], shape: str, rounds: int) -> dict[str, list[dict]]:
    """One row per name and round, measured one after the other, round by round."""
    rows = {name: [] for name in names}
    for round_number in range(1, rounds + 1):
        for name in names:
            rows[name].append(in_new_process(module, name, shape))
            print(f"{shape}, round {round_number}, {name}: {rows[name][-1]}", file=sys.stderr)
    return rows


def in_slices(module: str, names: list[str], shape: str, rounds: int) -> dict[str, list[dict]]:
    """As `in_turn`, but the processes stay, and a row is a slice of work of a second or so.

    A shared machine is slow or fast for half a minute: only slices that are near in time compare.
    The processes run `take_turns`; one works at a time.
    """
    rows = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        processes = {}
        for name in names:
            process = subprocess.Popen(
                _command(module, name, shape),
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes[name] = stack.enter_context(process)
            print(f"{shape}, {name}: ready {_next_row(process)}", file=sys.stderr)
        for _ in range(rounds):
            for name, process in processes.items():
                print(file=process.stdin, flush=True)
                rows[name].append(_next_row(process))
    return rows


def _next_row(process: subprocess.Popen) -> dict:
    for line in process.stdout:
        if line.startswith("{"):  # libraries print too
            return json.loads(line)
    raise RuntimeError(f"{process.args} ended too early.")


def take_turns(work: Callable[[], dict]) -> None:
    """Of a process in `in_slices`: works once to be ready, then once for every line it reads."""
    print(json.dumps(work()), flush=True)
    for _ in sys.stdin:
        print(json.dumps(work()), flush=True)


def median(rows: list[dict], column: str) -> float:
    """Over the rounds."""
    return statistics.median(row[column] for row in rows)


def median_ratio(rows: list[dict], others: list[dict], column: str) -> float:
    """Over the rounds, of measurements of the same round."""
    return statistics.median(
        row[column] / other[column] for row, other in zip(rows, others, strict=True)
    )
