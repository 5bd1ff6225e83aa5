"""Generation beside the peers: the same GPT-2, one sequence, sampling on, every cache in use.

    pip install torch==2.13.0 transformers==5.23.0 keras-hub==0.32.0
    python -m benchmarks.generate [--rounds 3] [--shapes first second] [--peers keras_lm ...]

Every measurement is a process of its own, in turn: keras_lm, the GPT-2 of `transformers` (one
thread and all), that of keras-hub (by default, and compiled by XLA, which is an option);
float32, random weights, temperature 0.8, top-k 40, top-p 0.9. Tokens per second: a prompt of 8
tokens continued to the end of the context. First token: from the call to the first token of a
prompt of half the context, warm. A second table has keras_lm alone: every attention with rotary
positions, the time per token of longer and longer texts, past the context too; and how many
programs were compiled for that, then after other prompts and settings.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.peers import keras_hub_gpt2, transformers_gpt2
from benchmarks.results import Report
from benchmarks.train import NAMES, SHAPES, SPEED
from benchmarks.turns import in_new_process, in_turn, median, median_ratio
from keras_lm.settings.variants import ATTENTIONS

SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}
PROMPT_LENGTH = 8
LEAST_SECONDS, LEAST_CALLS = 4.0, 5
CONTEXTS = (1, 2, 4, 8, 16)  # how long the texts are whose time per token is compared

# Prompt ids, number of new tokens, seed -> the new ids, as they come.
Continue = Callable[[list[int], int, int], Iterator[int]]


def build_generator(shape: dict[str, int], **changes):
    """Our Generator of a model of this shape with random weights."""
    from keras_lm.generation.generator import Generator
    from keras_lm.model.language_model import build_model
    from keras_lm.settings.config import ModelConfig

    return Generator(
        build_model(ModelConfig(**{name: shape[name] for name in NAMES[:-1]}, **changes))
    )


def keras_lm_gpt2(shape: dict[str, int]) -> Continue:
    """This package, as a GPT-2."""
    from keras_lm.settings.config import GenerationConfig

    generator = build_generator(
        shape,
        norm="layernorm",
        activation="gelu",
        positions="learned",
        use_bias=True,
        tie_embeddings=True,
    )
    return lambda prompt, count, seed: generator.stream(
        prompt, GenerationConfig(max_new_tokens=count, seed=seed, **SAMPLING)
    )


def transformers_generate(shape: dict[str, int], threads: int) -> Continue:
    """The GPT-2 of `transformers`, with its cache."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = transformers_gpt2(shape).eval()
    model.generation_config.eos_token_id = None

    def run(prompt: list[int], count: int, seed: int) -> Iterator[int]:
        torch.manual_seed(seed)
        ids = torch.tensor([prompt])
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=True,
            use_cache=True,
            pad_token_id=0,
            **SAMPLING,
        )
        yield from output[0, len(prompt) :].tolist()

    return run


def keras_hub_generate(shape: dict[str, int], jit_compile: bool) -> Continue:
    """The GPT-2 of keras-hub, whose `generate` is one graph with a cache."""
    import keras_hub

    model = keras_hub_gpt2(shape)
    sampler = keras_hub.samplers.TopPSampler(
        p=SAMPLING["top_p"], k=SAMPLING["top_k"], temperature=SAMPLING["temperature"], seed=1
    )
    model.compile(sampler=sampler, jit_compile=jit_compile)

    def run(prompt: list[int], count: int, seed: int) -> Iterator[int]:
        ids = np.pad(np.array([prompt], "int32"), ((0, 0), (0, count)))
        mask = np.arange(len(ids[0]))[None] < len(prompt)
        output = model.generate({"token_ids": ids, "padding_mask": mask}, stop_token_ids=None)
        yield from output["token_ids"][0, len(prompt) :].tolist()

    return run


PEERS = {
    "keras_lm": keras_lm_gpt2,
    "transformers": lambda shape: transformers_generate(shape, os.cpu_count()),
    "transformers, one thread": lambda shape: transformers_generate(shape, 1),
    "keras-hub": lambda shape: keras_hub_generate(shape, False),
    "keras-hub, XLA": lambda shape: keras_hub_generate(shape, True),
}


def repeat(measure_once: Callable[[int], float]) -> float:
    """The median of at least LEAST_CALLS seeds and LEAST_SECONDS seconds; the first two warm up."""
    values, begin = [], time.perf_counter()
    while len(values) < 2 + LEAST_CALLS or time.perf_counter() - begin < LEAST_SECONDS:
        values.append(measure_once(1 + len(values)))
    return statistics.median(values[2:])


def measure(peer: str, shape: dict[str, int]) -> dict[str, float]:
    """Generates in this process."""
    run = PEERS[peer](shape)
    prompt = np.random.default_rng(1).integers(shape["vocab_size"], size=shape["context_length"])

    def seconds_a_token(seed: int) -> float:
        count, begin = shape["context_length"] - PROMPT_LENGTH, time.perf_counter()
        tokens = list(run(prompt[:PROMPT_LENGTH].tolist(), count, seed))
        assert len(tokens) == count, "the peer stopped early"
        return (time.perf_counter() - begin) / count

    def first_token(seed: int) -> float:
        begin = time.perf_counter()
        next(iter(run(prompt[: len(prompt) // 2].tolist(), 1, seed)))
        return time.perf_counter() - begin

    return {
        "tokens_per_second": 1 / repeat(seconds_a_token),
        "first_token_ms": 1e3 * repeat(first_token),
    }


def measure_flatness(attention: str, shape: dict[str, int]) -> dict[str, list]:
    """Milliseconds per token of texts of some lengths, and how many programs were compiled."""
    from keras_lm.settings.config import GenerationConfig

    generator, context = build_generator(shape, attention=attention), shape["context_length"]

    def seconds(count: int) -> float:
        begin = time.perf_counter()
        list(generator.stream([1], GenerationConfig(max_new_tokens=count, **SAMPLING)))
        return time.perf_counter() - begin

    seconds(context)  # compiles
    rounds = [[seconds(n * context) / (n * context) for n in CONTEXTS] for _ in range(LEAST_CALLS)]
    compiled = generator.compilations
    for length in (0, 1, 7, context - 1, context + 9):
        for settings in ({"temperature": 0.0}, {"top_k": 0}, {"top_p": 1.0, "min_p": 0.1}):
            list(generator.stream([1] * length, GenerationConfig(max_new_tokens=5, **settings)))
    return {
        "ms": (1e3 * np.median(rounds, axis=0)).tolist(),
        "compilations": [compiled, generator.compilations],
    }


def report_peers(table: Report, shape: str, results: dict[str, list[dict]]) -> None:
    """Medians over the rounds; ratios are of measurements of the same round."""
    sizes = ", ".join(f"{name} {SHAPES[shape][name]:,}" for name in NAMES[:-1])
    table.line(f"{sizes}; {len(results['keras_lm'])} rounds.\n")
    table.line("| | tokens/s | keras_lm is faster by | first token, ms |")
    table.line("|---|---|---|---|")
    for peer, rows in results.items():
        table.line(
            f"| {peer} | {median(rows, SPEED):,.0f} | "
            f"{median_ratio(results['keras_lm'], rows, SPEED):.1f} | "
            f"{median(rows, 'first_token_ms'):.1f} |"
        )


def report_flatness(table: Report, shape: str) -> None:
    """One line per attention."""
    lengths = [f"{n * SHAPES[shape]['context_length']:,}" for n in CONTEXTS]
    table.line(f"\n| ms per token, length of the text | {' | '.join(lengths)} | compilations |")
    table.line("|---" * (len(lengths) + 2) + "|")
    for attention in ATTENTIONS:
        row = in_new_process("generate", attention, shape)
        before, after = row["compilations"]
        cells = [attention, *(f"{ms:.3f}" for ms in row["ms"]), f"{before}, then {after}"]
        table.line(f"| {' | '.join(cells)} |")


def main() -> None:
    """Prints two tables per shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", nargs="*", default=["first", "second"], choices=SHAPES)
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, shape = arguments.measure
        function = measure_flatness if name in ATTENTIONS else measure
        print(json.dumps(function(name, SHAPES[shape])))
        return
    peers = [*dict.fromkeys(["keras_lm", *arguments.peers])]
    for shape in arguments.shapes:
        table = Report(f"Generation, {shape} shape")
        report_peers(table, shape, in_turn("generate", peers, shape, arguments.rounds))
        report_flatness(table, shape)
        table.write()


if __name__ == "__main__":
    main()
