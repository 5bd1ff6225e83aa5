"""What each ingredient of Quick start is worth: the loss without it, and the time per token.

    python -m benchmarks.ablation [--seeds 1] [--texts moby-dick]

Equal tokens except where a row says otherwise, so that a busy machine does not change a loss; the
time per token is shown beside it.
"""

import argparse
import statistics

from benchmarks.results import Report
from benchmarks.time_to_loss import TEXTS, run_quick_start

STEPS = 800
VARIANTS = {
    "Quick start as it is": [],
    "AdamW at 3e-3 instead of Muon": ["--optimizer=adamw", "--learning-rate=0.003"],
    "AdamW at 1e-3": ["--optimizer=adamw", "--learning-rate=0.001"],
    "half the learning rate": ["--learning-rate=0.00175"],
    "twice the learning rate": ["--learning-rate=0.007"],
    "momentum 0.95": ["--momentum=0.95"],
    "cosine instead of trapezoid": ["--schedule=cosine"],
    "linear instead of trapezoid": ["--schedule=linear"],
    "no decay of the learning rate": ["--schedule=constant"],
    "squared ReLU of the same size": ["--activation=relu2", "--ffn-dim=384"],
    "GELU of the same size": ["--activation=gelu", "--ffn-dim=384"],
    "LayerNorm instead of RMSNorm": ["--norm=layernorm"],
    "no QK-norm": ["--no-qk-norm"],
    "characters": ["--tokenizer=char"],
    "characters, pairs embedded together": ["--tokenizer=char", "--ngram-order=2"],
    "pairs of tokens embedded together": ["--ngram-order=2"],
    "half as many entries": ["--bpe-size=410"],
    "twice as many entries": ["--bpe-size=1640"],
    "no growth of the weight decay": ["--decay-per-reading=0"],
    "twice the growth of the weight decay": ["--decay-per-reading=0.4"],
    "soft cap 15": ["--logit-soft-cap=15"],
    "no zero-initialized outputs": ["--no-zero-init"],
    "learned positions instead of rotary": ["--positions=learned"],
    "tied embeddings": ["--tie-embeddings"],
    "twice the batch, half the steps": ["--batch-size=12", f"--steps={STEPS // 2}"],
    "half the batch, twice the steps": ["--batch-size=3", f"--steps={STEPS * 2}"],
    "half the context, twice the batch": ["--context-length=64", "--batch-size=12"],
    "twice the context, half the batch": ["--context-length=256", "--batch-size=3"],
    "one block, twice the steps": ["--num-blocks=1", f"--steps={STEPS * 2}"],
    "four blocks": ["--num-blocks=4"],
    "four blocks, half the steps": ["--num-blocks=4", f"--steps={STEPS // 2}"],
}


def measure(flags: list[str]) -> tuple[float, float]:
    """Bits per byte of validation, and microseconds per token, the median over the run."""
    events = run_quick_start([f"--steps={STEPS}", *flags])[1]
    return events[-1]["val_bits_per_byte"], 1e6 / statistics.median(
        e["tokens_per_second"] for e in events
    )


def main() -> None:
    """Prints a table per text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--texts", nargs="*", default=TEXTS)
    arguments = parser.parse_args()
    seeds = range(1, arguments.seeds + 1)
    for data in arguments.texts:
        table = Report(f"Ablation of Quick start, {data}, {STEPS} steps")
        table.line(
            "| variant | bits per byte | more than as it is | us per token | times as it is |"
        )
        table.line("|---" * 5 + "|")
        as_it_is = None
        for variant, changes in VARIANTS.items():
            runs = [measure([f"--data={data}", *changes, f"--seed={seed}"]) for seed in seeds]
            loss, time = (statistics.median(column) for column in zip(*runs, strict=True))
            first_loss, first_time = as_it_is = as_it_is or (loss, time)
            table.line(
                f"| {variant} | {loss:.3f} | {loss - first_loss:+.3f} | {time:.1f} | "
                f"{time / first_time:.2f} |"
            )
        table.write()


if __name__ == "__main__":
    main()
