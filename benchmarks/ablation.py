"""What each ingredient of Quick start is worth: the loss in the same time without it.

    python -m benchmarks.ablation [--seconds 30] [--seeds 1] [--texts moby-dick]

Each variant gets as many steps as fit into the seconds, import and compilation counted, as two
short runs promise; every run is the command line in a process of its own.
"""

import argparse
import statistics

from benchmarks.results import Report
from benchmarks.time_to_loss import TEXTS, Pace, time_quick_start

SHORT_RUNS = (20, 120)
VARIANTS = {
    "Quick start as it is": [],
    "AdamW at 3e-3 instead of Muon": ["--optimizer=adamw", "--learning-rate=0.003"],
    "AdamW at 1e-3": ["--optimizer=adamw", "--learning-rate=0.001"],
    "half the learning rate": ["--learning-rate=0.0025"],
    "twice the learning rate": ["--learning-rate=0.01"],
    "cosine instead of trapezoid": ["--schedule=cosine"],
    "no decay of the learning rate": ["--schedule=constant"],
    "GELU instead of squared ReLU": ["--activation=gelu"],
    "SwiGLU of the same size": ["--activation=swiglu", "--ffn-dim=341"],
    "LayerNorm instead of RMSNorm": ["--norm=layernorm"],
    "no QK-norm": ["--no-qk-norm"],
    "weight decay 0.1": ["--weight-decay=0.1"],
    "weight decay 1": ["--weight-decay=1"],
    "no soft cap": ["--logit-soft-cap=0"],
    "no zero-initialized outputs": ["--no-zero-init"],
    "learned positions instead of rotary": ["--positions=learned"],
    "tied embeddings": ["--tie-embeddings"],
    "twice the batch": ["--batch-size=24"],
    "half the batch": ["--batch-size=6"],
    "twice the context, half the batch": ["--context-length=128", "--batch-size=6"],
    "six blocks instead of four": ["--num-blocks=6"],
    "two blocks": ["--num-blocks=2"],
}


def main() -> None:
    """Prints a table a text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--texts", nargs="*", default=TEXTS)
    arguments = parser.parse_args()
    for data in arguments.texts:
        table = Report(f"Ablation of Quick start, {data}, {arguments.seconds:g} s")
        table.line("| variant | steps | seconds | validation loss | more than as it is |")
        table.line("|---|---|---|---|---|")
        as_it_is = None
        for variant, changes in VARIANTS.items():
            flags = [f"--data={data}", *changes]
            steps = Pace.measure(flags, runs=SHORT_RUNS).steps_in(arguments.seconds)
            seeds = range(1, arguments.seeds + 1)
            runs = [time_quick_start([*flags, f"--seed={seed}"], steps) for seed in seeds]
            seconds, loss = (statistics.median(column) for column in zip(*runs, strict=True))
            as_it_is = as_it_is or loss
            table.line(
                f"| {variant} | {steps:,} | {seconds:.1f} | {loss:.3f} | {loss - as_it_is:+.3f} |"
            )
        table.write()


if __name__ == "__main__":
    main()
