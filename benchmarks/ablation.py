"""What each ingredient of Quick start is worth in equal time: bits per byte with another one.

    python -m benchmarks.ablation [--seeds 3] [--texts alice] [--variants "one block"] [--table]

First the time of a step is measured for each variant beside Quick start's (leave the machine
alone), then each is trained for as many steps as take the time of Quick start's STEPS. Every
measurement is a row of `ablation.csv` at once, and what is there for this device is not done again:
remove the file when Quick start has changed. `--table` prints the table alone, of the texts and
seeds that Quick start as it is was trained on.
"""

import argparse
import math
import statistics
from pathlib import Path

from benchmarks.results import Report, Rows
from benchmarks.time_to_loss import TEXTS, run_quick_start

STEPS, TIMED_STEPS, ROUNDS = 1000, 150, 3
COLUMNS = ("measure", "variant", "text", "seed", "steps", "value")
ROWS = Rows(Path(__file__).with_name("ablation.csv"), COLUMNS)
AS_IT_IS = "Quick start as it is"
VARIANTS = {
    AS_IT_IS: [],
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
    "pairs and triples of tokens embedded together": ["--ngram-order=3"],
    "410 entries": ["--bpe-size=410"],
    "1640 entries": ["--bpe-size=1640"],
    "no growth of the weight decay": ["--decay-per-reading=0"],
    "twice the growth of the weight decay": ["--decay-per-reading=0.4"],
    "dropout 0.1": ["--dropout=0.1"],
    "soft cap 15": ["--logit-soft-cap=15"],
    "no zero-initialized outputs": ["--no-zero-init"],
    "learned positions instead of rotary": ["--positions=learned"],
    "tied embeddings": ["--tie-embeddings"],
    "twice the batch": ["--batch-size=12"],
    "half the batch": ["--batch-size=3"],
    "half the context, twice the batch": ["--context-length=64", "--batch-size=12"],
    "twice the context, half the batch": ["--context-length=256", "--batch-size=3"],
    "one block": ["--num-blocks=1"],
    "four blocks": ["--num-blocks=4"],
}


def step_seconds(flags: list[str]) -> float:
    """Of a short run: the median over its events, so that a pause of the machine does not count."""
    events = run_quick_start([f"--steps={TIMED_STEPS}", *flags])[1]
    step, tokens = events[-1]["step"], events[-1]["tokens"]
    return tokens / step / statistics.median(event["tokens_per_second"] for event in events)


def relative_time(flags: list[str]) -> float:
    """How many times as long a step takes as Quick start's, measured in turn."""
    rounds = [(step_seconds(flags), step_seconds([])) for _ in range(ROUNDS)]
    return statistics.median(own / usual for own, usual in rounds)


def measure_times(variants: list[str]) -> dict[str, float]:
    """The relative time of each variant, measured where it is not known."""
    rows = ROWS.read().query("measure == 'time'")
    times = {AS_IT_IS: 1.0, **dict(zip(rows.variant, rows.value, strict=True))}
    for name in variants:
        if name not in times:
            times[name] = round(relative_time(VARIANTS[name]), 3)
            ROWS.keep("time", name, "", "", "", times[name])
    return times


def measure_bits(texts: list[str], seeds: int, variants: list[str]) -> None:
    """Trains what is missing, seed after seed."""
    variants = [AS_IT_IS, *(name for name in variants if name != AS_IT_IS)]
    times = measure_times(variants)
    rows = ROWS.read().query("measure == 'bits'")
    done = {(row.variant, row.text, int(row.seed)) for row in rows.itertuples()}
    runs = [(n, t, s) for s in range(1, seeds + 1) for t in texts for n in variants]
    for name, text, seed in runs:
        if (name, text, seed) not in done:
            steps = round(STEPS / times[name])
            flags = [f"--data={text}", f"--seed={seed}", f"--steps={steps}", *VARIANTS[name]]
            bits = run_quick_start(flags)[1][-1]["val_bits_per_byte"]
            ROWS.keep("bits", name, text, seed, steps, round(bits, 4))


def table() -> None:
    """Prints a row per variant: means over seeds, and the mean share of Quick start's bits."""
    results = ROWS.read()
    times = results.query("measure == 'time'").set_index("variant")["value"]
    bits = results.query("measure == 'bits'")
    usual = bits[bits.variant == AS_IT_IS][["text", "seed"]]
    bits = bits.merge(usual, on=["text", "seed"])
    texts = [*dict.fromkeys(usual.text)]
    report = Report("Ablation of Quick start in equal time")
    report.line(f"| variant | time per step | {' | '.join(texts)} | share of Quick start's |")
    report.line("|---" * (3 + len(texts)) + "|")
    by_text = bits.groupby(["variant", "text"], sort=False)["value"]
    mean, spread = by_text.mean().unstack()[texts], by_text.std().unstack()[texts]
    for name in dict.fromkeys(bits.variant):
        cells = [_cell(mean.loc[name, text], spread.loc[name, text]) for text in texts]
        share = (mean.loc[name] / mean.loc[AS_IT_IS]).mean()
        time = times.get(name, 1.0)
        report.line(f"| {name} | {time:.2f} | {' | '.join(cells)} | {share:.3f} |")
    report.write()


def _cell(mean: float, spread: float) -> str:
    """Of one text; one seed has no spread, and a text that was not trained on nothing."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.3f}" + ("" if math.isnan(spread) else f" ± {spread:.3f}")


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", nargs="*", default=TEXTS)
    parser.add_argument("--variants", nargs="*", default=[*VARIANTS], choices=VARIANTS)
    parser.add_argument("--table", action="store_true", help="print the table alone")
    arguments = parser.parse_args()
    if not arguments.table:
        measure_bits(arguments.texts, arguments.seeds, arguments.variants)
    table()


if __name__ == "__main__":
    main()
