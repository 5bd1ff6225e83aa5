"""Training speed and memory beside the peers: the same GPT-2, the same windows of the same text.

    pip install torch==2.13.0 transformers==5.23.0 keras-hub==0.32.0
    python -m benchmarks.train [--rounds 15] [--shapes first second third]

Each is a process of its own; in a round each works for a second in turn: keras_lm, the GPT-2 of
`transformers` (eager and compiled), a lean GPT in PyTorch, the GPT-2 of keras-hub; float32, AdamW,
clipped gradients. Memory is the peak beyond what the imports take; the loss is the mean of steps 90
to 99. keras_lm keeps its compiled programs, as its users do: a first run needs more memory than the
later ones. The limit is what the step's matrix products alone would allow, at the rate that one of
them reaches.
"""

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers import keras_hub_gpt2, transformers_gpt2
from benchmarks.results import Report
from benchmarks.turns import in_slices, median, median_ratio, take_turns

NAMES = ("vocab_size", "context_length", "d_model", "num_heads", "num_blocks", "ffn_dim", "batch")
SHAPES = {
    "first": dict(zip(NAMES, (65, 64, 128, 4, 4, 512, 12), strict=True)),
    "second": dict(zip(NAMES, (6000, 256, 128, 8, 6, 512, 4), strict=True)),
    "third": dict(zip(NAMES, (65, 256, 384, 6, 6, 1536, 16), strict=True)),
}
RATE, BETAS, DECAY, EPSILON, CLIP_NORM = 1e-3, (0.9, 0.99), 0.1, 1e-8, 1.0
STEPS_PER_CALL = 10
LOSS_STEPS = range(90, 100)
SLICE_SECONDS = 1.0
PRODUCTS_PER_CALL = 200
LIMIT = "matrix products alone"
SPEED = "tokens_per_second"

Step = Callable[[np.ndarray], list[float]]


def keras_lm_step(shape: dict[str, int], tokens: np.ndarray) -> tuple[Step, int]:
    """This package: offsets (steps, batch) -> losses; and the number of parameters."""
    import keras

    from keras_lm.model.language_model import build_model
    from keras_lm.settings.config import ModelConfig, TrainingConfig
    from keras_lm.training.optimizers import create_optimizer
    from keras_lm.training.train_step import CompiledSteps, prepare_device

    policy = prepare_device("float32", deterministic=False)
    config = ModelConfig(
        **{name: shape[name] for name in NAMES[:-1]},
        norm="layernorm",
        activation="gelu",
        positions="learned",
        use_bias=True,
        tie_embeddings=True,
    )
    recipe = TrainingConfig(
        learning_rate=RATE,
        warmup_steps=0,
        schedule="constant",
        beta_1=BETAS[0],
        beta_2=BETAS[1],
        epsilon=EPSILON,
        weight_decay=DECAY,
        clip_norm=CLIP_NORM,
    )
    keras.utils.set_random_seed(1)
    model = build_model(config, policy)
    training = CompiledSteps(model, create_optimizer(recipe, model), tokens, clip_norm=CLIP_NORM)
    training.compile(shape["batch"])
    return lambda offsets: training.train_steps(offsets)["loss"].tolist(), model.count_params()


def torch_step(kind: str, shape: dict[str, int], tokens: np.ndarray) -> tuple[Step, int]:
    """The peers in PyTorch: "lean", "transformers" or "transformers, compiled"."""
    import torch

    from benchmarks.lean_gpt import LeanGPT, decay_groups, loss_of

    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(1)
    model = LeanGPT(shape) if kind == "lean" else transformers_gpt2(shape, use_cache=False)
    parameters = list(model.parameters())
    groups = decay_groups(parameters, DECAY)
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPSILON, fused=True)
    forward = torch.compile(model) if kind.endswith("compiled") else model
    text, places = torch.tensor(tokens, dtype=torch.long), torch.arange(shape["context_length"] + 1)

    def run(offsets: np.ndarray) -> list[float]:
        losses = []
        for row in offsets:
            windows = text[torch.tensor(row)[:, None] + places]
            output = forward(windows[:, :-1])
            loss = loss_of(getattr(output, "logits", output), windows[:, 1:])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        return losses

    return run, sum(p.numel() for p in parameters)


def keras_hub_step(shape: dict[str, int], tokens: np.ndarray) -> tuple[Step, int]:
    """The GPT-2 of keras-hub as its users train it, with `fit`."""
    import keras

    keras.utils.set_random_seed(1)
    model = keras_hub_gpt2(shape)
    # They start at half of GPT-2's deviation, positions at all of it: the tokens would drown.
    embeddings = model.backbone.token_embedding.embeddings
    embeddings.assign(2 * embeddings)
    optimizer = keras.optimizers.AdamW(
        RATE, DECAY, *BETAS, epsilon=EPSILON, global_clipnorm=CLIP_NORM
    )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    losses = []
    keep = keras.callbacks.LambdaCallback(on_batch_end=lambda _, logs: losses.append(logs["loss"]))
    places = np.arange(shape["context_length"] + 1)

    def run(offsets: np.ndarray) -> list[float]:
        windows = tokens[offsets.ravel()[:, None] + places]
        inputs = {"token_ids": windows[:, :-1], "padding_mask": np.ones_like(windows[:, :-1])}
        batch = offsets.shape[1]
        model.fit(
            inputs, windows[:, 1:], batch, callbacks=[keep], shuffle=False, verbose=0, epochs=1
        )
        return losses[-len(offsets) :]

    return run, model.count_params()


PEERS = {
    "keras_lm": keras_lm_step,
    "transformers": lambda *a: torch_step("transformers", *a),
    "transformers, compiled": lambda *a: torch_step("transformers, compiled", *a),
    "lean PyTorch": lambda *a: torch_step("lean", *a),
    "keras-hub": keras_hub_step,
}


def prepare(peer: str, shape: dict[str, int]) -> Callable[[], dict[str, float]]:
    """Trains in this process until LOSS_STEPS are over; then each call trains on and measures."""
    from keras_lm.data import corpus
    from keras_lm.settings.config import DataConfig
    from keras_lm.storage.cache import keep_compiled_programs
    from keras_lm.training.windows import WindowOrder

    if peer == "keras_lm":
        keep_compiled_programs()
    if peer in ("keras_lm", "keras-hub"):
        import keras  # noqa: F401
    if peer == "keras-hub":
        import keras_hub  # noqa: F401
    if peer not in ("keras_lm", "keras-hub"):
        import torch  # noqa: F401
    if peer.startswith("transformers"):
        from transformers import GPT2LMHeadModel  # noqa: F401
    text = corpus.prepare(DataConfig(data="moby-dick", tokenizer="char"), 256).train
    # For a large vocabulary, neighbours in pairs: real enough, and the same for all.
    tokens = text % 65 if shape["vocab_size"] == 65 else (text[:-1] * 77 + text[1:]) % 6000
    before = resident_mb("VmRSS")
    run, parameters = PEERS[peer](shape, tokens)
    order = WindowOrder(len(tokens), shape["context_length"], seed=1)
    calls = itertools.count()

    def train_on() -> list[float]:
        first = STEPS_PER_CALL * next(calls)
        rows = range(first, first + STEPS_PER_CALL)
        return run(np.stack([order.offsets(row, shape["batch"]) for row in rows]))

    def measure() -> dict[str, float]:
        tokens, begin = 0, time.perf_counter()
        while (seconds := time.perf_counter() - begin) < SLICE_SECONDS:
            train_on()
            tokens += STEPS_PER_CALL * shape["batch"] * shape["context_length"]
        memory = resident_mb("VmHWM") - before
        return {
            SPEED: tokens / seconds,
            "parameters": parameters,
            "loss": loss,
            "memory_mb": memory,
        }

    losses = [loss for _ in range(LOSS_STEPS.stop // STEPS_PER_CALL) for loss in train_on()]
    loss = statistics.mean(losses[step] for step in LOSS_STEPS)
    return measure


def products_limit(shape: dict[str, int]) -> Callable[[], dict[str, float]]:
    """FLOP/s of tokens times a feed-forward matrix; tokens per second if the rest took no time."""
    import tensorflow as tf

    from keras_lm.settings.config import ModelConfig, TrainingConfig
    from keras_lm.settings.estimates import step_work

    tokens = shape["batch"] * shape["context_length"]
    up = tf.random.normal((shape["d_model"], shape["ffn_dim"]), stddev=shape["d_model"] ** -0.5)
    x = tf.random.normal((tokens, shape["d_model"]))

    @tf.function(autograph=False, jit_compile=True)
    def multiply(x):  # many at once, each needing the one before, or the call itself would count
        def there_and_back(i, x):
            return i + 1, tf.matmul(tf.matmul(x, up), up, transpose_b=True)

        return tf.while_loop(lambda i, _: i < PRODUCTS_PER_CALL // 2, there_and_back, (0, x))[1]

    multiply(x)
    products = PRODUCTS_PER_CALL * 2 * tokens * shape["d_model"] * shape["ffn_dim"]
    model = ModelConfig(
        **{name: shape[name] for name in NAMES[:-1]}, activation="gelu", tie_embeddings=True
    )
    work = step_work(model, TrainingConfig(batch_size=shape["batch"]))
    flops_per_token = (work["products"] + work["attention products"]) / tokens

    def measure() -> dict[str, float]:
        begin = time.perf_counter()
        multiply(x)
        rate = products / (time.perf_counter() - begin)
        return {"flops_per_second": rate, SPEED: rate / flops_per_token}

    return measure


def resident_mb(field: str) -> float:
    """A line of this process's memory in /proc, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1e3


def main() -> None:
    """Prints a table per shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shapes", nargs="*", default=SHAPES, choices=SHAPES)
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        peer, shape = arguments.measure
        of_shape = SHAPES[shape]
        take_turns(products_limit(of_shape) if peer == LIMIT else prepare(peer, of_shape))
        return
    peers = [*dict.fromkeys(["keras_lm", *arguments.peers])]
    for shape in arguments.shapes:
        report(shape, in_slices("train", [*peers, LIMIT], shape, arguments.rounds))


def report(shape: str, results: dict[str, list[dict]]) -> None:
    """Medians over the rounds; ratios are of measurements of the same round."""
    limit, own = results.pop(LIMIT), results["keras_lm"]
    table = Report(f"Training, {shape} shape")
    sizes = ", ".join(f"{name} {value:,}" for name, value in SHAPES[shape].items())
    table.line(f"{sizes}; {len(own)} round{'s' if len(own) > 1 else ''}.\n")
    table.line("| | tokens/s | keras_lm is faster by | memory, MB | loss | parameters |")
    table.line("|---|---|---|---|---|---|")
    for peer, rows in results.items():
        table.line(
            f"| {peer} | {median(rows, SPEED):,.0f} | {median_ratio(own, rows, SPEED):.2f} | "
            f"{median(rows, 'memory_mb'):,.0f} | {median(rows, 'loss'):.3f} | "
            f"{rows[0]['parameters']:,} |"
        )
    table.line(
        f"\nMatrix products alone, at {median(limit, 'flops_per_second') / 1e9:.0f} GFLOP/s, would "
        f"allow {median(limit, SPEED):,.0f} tokens per second: keras_lm reaches "
        f"{median_ratio(own, limit, SPEED):.2f} of it."
    )
    table.write()


if __name__ == "__main__":
    main()
