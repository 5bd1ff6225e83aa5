"""Time and memory of attention, forward and backward: against PyTorch, and against length.

    pip install torch==2.13.0
    python -m benchmarks.attention [--write]

First the mixture alone (queries, keys and values are given) beside PyTorch's fused kernel, in turn,
on two shapes. Then a whole layer (d_model 128, 8 heads, one sequence) at growing lengths, each in a
process of its own: time per step, most memory taken beyond what was there before it, time to
compile. "full square" is the layer with all scores at once, as a plain implementation has them.
`--write` renews the table from which the page draws.
"""

import argparse
import csv
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from keras_lm.settings.variants import ATTENTIONS

PROJECT = Path(__file__).resolve().parents[1]
COSTS_FILE = PROJECT / "keras_lm" / "ui" / "parts" / "attention_costs.csv"
SHAPES = ((4, 8, 256, 16), (1, 8, 1024, 64))
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
FULL = "full square"
LAYERS = (*ATTENTIONS, FULL)
LONGEST = {FULL: 4096, "standard": 4096}  # beyond, memory or compilation are out of proportion
D_MODEL, NUM_HEADS = 128, 8
ROUNDS, SECONDS_PER_ROUND = 7, 0.4


def attention_class(name: str) -> type:
    """The layer of that name."""
    from keras import ops

    from keras_lm.model.attention import StandardAttention

    class FullSquareAttention(StandardAttention):
        def attend(self, queries, keys, values):
            keys, values = ops.swapaxes(keys, 2, 3), ops.swapaxes(values, 2, 3)
            return self._attend_rows(queries, keys, values, first_row=0)

    return FullSquareAttention if name == FULL else ATTENTIONS[name].load()


def seconds_per_call(call: Callable[[], object], seconds: float) -> float:
    """The mean over as many calls as fit into that time."""
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        call()
        count += 1
    return (time.perf_counter() - begin) / count


def mixture_calls(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    """What to time: forward and backward of each mechanism's mixture, PyTorch's fused one first."""
    import numpy as np
    import torch

    generator = np.random.default_rng(1)
    arrays = [generator.normal(size=shape).astype("float32") for _ in range(4)]
    torch.set_num_threads(os.cpu_count())
    queries, keys, values = (torch.tensor(x, requires_grad=True) for x in arrays[:3])
    upstream = torch.tensor(arrays[3])

    def fused():
        mixed = torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, is_causal=True
        )
        return torch.autograd.grad(mixed, (queries, keys, values), upstream)

    calls = {"PyTorch, fused": fused}
    for name in LAYERS:
        inputs = arrays[:3]
        if name == "linear":
            shares = generator.dirichlet(np.ones(32), shape[:3]).astype("float32")
            inputs = [*inputs, *arrays[:2], shares]
        calls[name] = compiled_mixture(name, inputs, arrays[3])
    return calls


def compiled_mixture(name: str, inputs: list, upstream) -> Callable[[], object]:
    """One mechanism's forward and backward on arrays; the call returns when it is done."""
    import tensorflow as tf

    _, num_heads, length, head_dim = upstream.shape
    layer = attention_class(name)(num_heads)
    layer.build((None, length, num_heads * head_dim))

    @tf.function(jit_compile=True)
    def gradients(upstream, *tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            mixed = layer.attend(*tensors)
        return tape.gradient(mixed, tensors, output_gradients=upstream)

    arguments = [tf.constant(x) for x in (upstream, *inputs)]
    return lambda: gradients(*arguments)[0].numpy()


def compare_mixtures() -> None:
    """Prints one table: milliseconds and the ratio to PyTorch's fused kernel."""
    print("| batch, heads, length, head size | mechanism | ms | against PyTorch, fused |")
    print("|---|---|---|---|")
    for shape in SHAPES:
        calls = mixture_calls(shape)
        times = {name: [] for name in calls}
        for call in calls.values():
            call()
        for _ in range(ROUNDS):
            for name, call in calls.items():
                time.sleep(0.2)  # the other library's threads go to sleep
                call()
                times[name].append(seconds_per_call(call, SECONDS_PER_ROUND))
        fused = times["PyTorch, fused"]
        for name, own in times.items():
            ratio = statistics.median(a / b for a, b in zip(own, fused, strict=True))
            print(f"| {shape} | {name} | {1e3 * statistics.median(own):.2f} | {ratio:.2f} |")


def measure_layer(name: str, length: int) -> dict[str, float]:
    """In this process: seconds per step and to compile, and MB that a step adds."""
    import numpy as np
    import tensorflow as tf

    layer = attention_class(name)(NUM_HEADS)
    layer.build((None, length, D_MODEL))
    x = tf.constant(np.random.default_rng(1).normal(size=(1, length, D_MODEL)), tf.float32)

    variables = layer.trainable_weights

    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = layer(x)
        return tape.gradient(out, [x, *(variable.value for variable in variables)], x)

    @tf.function(jit_compile=True)
    def step(runs):
        return tf.cond(runs, gradients, lambda: [tf.zeros_like(v) for v in (x, *variables)])

    begin = time.perf_counter()
    step(tf.constant(False))[0].numpy()  # compiles, and touches none of the step's memory
    compile_seconds = time.perf_counter() - begin
    before = memory_mb("VmRSS")
    run = functools.partial(step, tf.constant(True))
    run()[0].numpy()
    extra = memory_mb("VmRSS") - before  # TensorFlow keeps what it once had
    times = [seconds_per_call(lambda: run()[0].numpy(), SECONDS_PER_ROUND) for _ in range(ROUNDS)]
    seconds = statistics.median(times)
    return {"seconds": seconds, "megabytes": extra, "compile_seconds": compile_seconds}


def memory_mb(field: str) -> float:
    """A line of this process's memory in /proc, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1e3


def measure_lengths() -> list[dict]:
    """One row per layer and length, printed as they come."""
    print("\n| length | mechanism | ms per step | microseconds per token | MB | compiled in s |")
    print("|---|---|---|---|---|---|")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    rows = []
    for length in LENGTHS:
        for name in LAYERS:
            if length > LONGEST.get(name, length):
                continue
            words = [sys.executable, "-m", "benchmarks.attention", "--layer", name, str(length)]
            shown = subprocess.run(
                words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
            )
            row = {"attention": name, "length": length} | json.loads(shown.stdout.splitlines()[-1])
            rows.append(row)
            print(
                f"| {length:,} | {name} | {1e3 * row['seconds']:.1f} | "
                f"{1e6 * row['seconds'] / length:.1f} | {row['megabytes']:.0f} | "
                f"{row['compile_seconds']:.1f} |",
                flush=True,
            )
    return rows


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="renew the page's table")
    parser.add_argument("--layer", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.layer:
        print(json.dumps(measure_layer(arguments.layer[0], int(arguments.layer[1]))))
        return
    compare_mixtures()
    rows = measure_lengths()
    if arguments.write:
        with open(COSTS_FILE, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["attention", "length", "milliseconds", "megabytes"])
            for row in rows:
                if row["attention"] != FULL:
                    milliseconds = round(1e3 * row["seconds"], 2)
                    values = (row["attention"], row["length"], milliseconds)
                    writer.writerow([*values, round(row["megabytes"], 1)])


if __name__ == "__main__":
    main()
