"""Several processes against one: their losses, their speed, and what the reduction takes.

    python -m benchmarks.distributed [--rounds 3] [--sizes small medium large]
    python -m benchmarks.distributed --losses   # three processes, fifty steps, all optimizers

The first needs two cores with nothing else on them. It measures training by two processes of one
core each beside one process of two cores, with the same batch, and sums vectors of several sizes
over two processes; from these it computes what more workers would reach on networks of several
speeds. It writes a section of RESULTS.md.
"""

import argparse
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.results import Report
from benchmarks.turns import PROJECT

SIZES = {  # d_model, blocks, batch, context, steps
    "small": (128, 2, 16, 64, 110),
    "medium": (256, 4, 16, 128, 40),
    "large": (512, 6, 8, 128, 20),
}
# A network's bytes per second, and seconds until the first of them arrives.
NETWORKS = {
    "1 Gb/s": (1.25e8, 1e-4),
    "10 Gb/s": (1.25e9, 5e-5),
    "100 Gb/s": (1.25e10, 2e-5),
}
WORKERS = (2, 8, 64, 512)
LOSSES: dict[str, dict[str, Any]] = {
    "adamw": {},
    "muon": {"optimizer": "muon"},
    "adamw, accumulation": {"gradient_accumulation": 2},
    "muon, accumulation": {"optimizer": "muon", "gradient_accumulation": 2},
    "adamw, loss scaling": {"precision": "mixed_float16"},
    "muon, loss scaling": {"optimizer": "muon", "precision": "mixed_float16"},
}


def speed_cases(sizes: list[str]) -> list[dict[str, Any]]:
    """The sizes, each with the batch of all processes together."""
    cases = []
    for name in sizes:
        width, blocks, batch, length, steps = SIZES[name]
        model = {"context_length": length, "d_model": width, "num_blocks": blocks}
        model |= {"num_heads": width // 64, "ffn_dim": 4 * width}
        training = {"batch_size": batch, "optimizer": "muon"}
        cases.append({"name": name, "model": model, "training": training, "steps": steps})
    return cases


def loss_cases() -> list[dict[str, Any]]:
    """All optimizers, with a tiny model and a batch that three can share."""
    model = {"context_length": 15, "d_model": 12, "num_heads": 2, "num_blocks": 1, "ffn_dim": 24}
    training = {"batch_size": 6, "warmup_steps": 5, "learning_rate": 0.01}
    return [
        {"name": name, "model": model, "training": training | changes, "steps": 50}
        for name, changes in LOSSES.items()
    ]


def together(task: str, cases: list[dict[str, Any]], cores: list[str]) -> list[dict[str, Any]]:
    """What the first of several processes printed.

    Args:
        task, cases: of `distributed_work`.
        cores: of each process, as `taskset` takes them; one process is alone.
    """
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in cores]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    for index, core in enumerate(cores):
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        if len(cores) > 1:
            task_of = {"type": "worker", "index": index}
            spec = {"cluster": {"worker": addresses}, "task": task_of}
            environment["TF_CONFIG"] = json.dumps(spec)
        words = [sys.executable, "-m", "benchmarks.distributed_work", task, json.dumps(cases)]
        processes.append(
            subprocess.Popen(
                ["taskset", "-c", core, *words],
                cwd=PROJECT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
    shown = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("A process failed: run benchmarks.distributed_work by itself to see why.")
    return [json.loads(line) for line in shown[0].splitlines()]


def compare_losses() -> None:
    """Prints how far three processes are from one."""
    one = together("train", loss_cases(), ["0,1"])
    three = together("train", loss_cases(), ["0,1"] * 3)
    print("| training | first ten steps | fifty steps | last loss |\n|---|---|---|---|")
    for alone, shared in zip(one, three, strict=True):
        losses = np.array(alone["losses"])
        off = np.abs(losses - np.array(shared["losses"]))
        print(f"| {alone['name']} | {off[:10].max():.1e} | {off.max():.1e} | {losses[-1]:.3f} |")


def measure_speed(report: Report, rounds: int, sizes: list[str]) -> dict[str, dict[str, Any]]:
    """Two processes of one core beside one of two, and one of one; by size the last one's row."""
    kinds = {"one, two cores": ["0,1"], "two, one core each": ["0", "1"], "one, one core": ["0"]}
    rows: dict[str, list[list[dict[str, Any]]]] = {kind: [] for kind in kinds}
    for _, (kind, cores) in itertools.product(range(rounds), kinds.items()):
        cases = speed_cases(sizes)
        if kind == "one, one core":  # half of the batch, which is a worker's share
            for case in cases:
                case["training"]["batch_size"] //= 2
        rows[kind].append(together("train", cases, cores))
    report.line(
        "Tokens per second, medians of processes; of ideal: of one process on both cores.\n"
    )
    report.line("| model | parameters | one process | two processes | of ideal | a share alone |")
    report.line("|---|---|---|---|---|---|")
    shares = {}
    for index, case in enumerate(speed_cases(sizes)):
        tokens = case["training"]["batch_size"] * case["model"]["context_length"]
        found = {kind: [row[index] for row in each] for kind, each in rows.items()}
        seconds = {k: statistics.median(r["seconds"] for r in each) for k, each in found.items()}
        one, two, share = (seconds[kind] for kind in kinds)
        parameters = found["one, one core"][0]["parameters"]
        report.line(
            f"| {case['name']} | {parameters:,} | {tokens / one:,.0f} | {tokens / two:,.0f} | "
            f"{one / two:.2f} | {tokens / 2 / share:,.0f} |"
        )
        shares[case["name"]] = {"parameters": parameters, "seconds": share}
    return shares


def measure_reduction(report: Report) -> None:
    """What it takes to sum a vector over two processes, by its size."""
    rows = together("reduce", [], ["0", "1"])
    counts = np.array([row["count"] for row in rows])
    seconds = np.array([row["seconds"] for row in rows])
    report.line("\n| numbers | bytes | ms | MB/s |\n|---|---|---|---|")
    for count, took in zip(counts.tolist(), seconds.tolist(), strict=True):
        report.line(
            f"| {count:,} | {4 * count:,} | {1e3 * took:.2f} | {4e-6 * count / took:,.0f} |"
        )


def expected(parameters: int, seconds: float, workers: int, network: tuple[float, float]) -> float:
    """Part of ideal that workers reach: a ring sends each gradient twice, in 2 (n - 1) messages.

    Args:
        parameters: of the model; each gradient has 4 bytes.
        seconds: of a worker's own share of a step.
        workers: how many.
        network: bytes per second, and seconds per message.

    Example:
        >>> round(expected(1_000_000, 0.1, 2, (1e9, 1e-4)), 3)
        0.96
    """
    bandwidth, latency = network
    sent = 2 * (workers - 1) / workers * 4 * parameters
    return seconds / (seconds + sent / bandwidth + 2 * (workers - 1) * latency)


def report_expectations(report: Report, shares: dict[str, dict[str, Any]]) -> None:
    """The share of ideal by size, network and workers, from the measured share of a step."""
    report.line(
        "\nExpected part of ideal with n workers, each with the measured share of a step, T: "
        "T / (T + 2 (n - 1) / n * 4 P / bandwidth + 2 (n - 1) latency), P parameters.\n"
    )
    names = " | ".join(f"{workers} workers" for workers in WORKERS)
    report.line(f"| model | T, ms | network | {names} |")
    report.line("|---|---|---|" + "---|" * len(WORKERS))
    for (size, share), (name, network) in itertools.product(shares.items(), NETWORKS.items()):
        parts = (expected(**share, workers=workers, network=network) for workers in WORKERS)
        cells = " | ".join(f"{part:.2f}" for part in parts)
        report.line(f"| {size} | {1e3 * share['seconds']:.0f} | {name} | {cells} |")


def main() -> None:
    """Measures and prints what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=[*SIZES])
    typed = parser.parse_args()
    if typed.losses:
        compare_losses()
        return
    report = Report("Several workers")
    shares = measure_speed(report, typed.rounds, typed.sizes)
    measure_reduction(report)
    report_expectations(report, shares)
    report.write()


if __name__ == "__main__":
    main()
