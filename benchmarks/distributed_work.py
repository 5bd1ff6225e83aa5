"""What one process of `benchmarks.distributed` does, with the others of TF_CONFIG or alone.

`python -m benchmarks.distributed_work TASK CASES` prints a JSON object per line.
"""

import json
import os
import sys
import tempfile
import time
from typing import Any

import numpy as np

from keras_lm.data.corpus import Corpus
from keras_lm.data.tokenizers import CharTokenizer
from keras_lm.model.backend import keras
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training.distribution import Group, join
from keras_lm.training.loop import TrainingLoop
from keras_lm.training.progress import Progress, Requests, Run
from keras_lm.training.replicas import DistributedSteps
from keras_lm.training.train_step import CompiledSteps, prepare_device

STEPS_PER_CALL = 10
REDUCED = (2**12, 2**16, 2**20, 2**22, 2**24)  # numbers of 4 bytes


def corpus() -> Corpus:
    """Random letters of which each is followed by one of two, so that there is much to learn."""
    random = np.random.default_rng(1)
    pairs = np.stack([random.permutation(64), random.permutation(64)])
    ids = [0]
    for which in random.integers(0, 2, 100_000):
        ids.append(int(pairs[which, ids[-1]]))
    letters = "".join(map(chr, range(48, 112)))
    array = np.array(ids, "int32")
    tokenizer = CharTokenizer.from_text(letters)
    return Corpus(tokenizer, array, array[:0], context_length=128)


def make_loop(case: dict[str, Any], strategy: str, text: Corpus) -> TrainingLoop:
    """The loop of a case, compiled; with several processes all do this at once."""
    model = ModelConfig(vocab_size=text.tokenizer.vocab_size, **case["model"])
    training = TrainingConfig(**case["training"], strategy=strategy)
    config = RunConfig(model, DataConfig(), training)
    folder = RunFolder(tempfile.gettempdir())  # which is only read
    run = Run(folder, config, text, Progress(time.time()), Requests(folder), print)
    keras.utils.set_random_seed(1)
    precision = training.precision.replace("auto", "float32")
    loop = TrainingLoop(run, build_model(config.model, precision))
    if isinstance(loop.compiled_steps, DistributedSteps):
        loop.compiled_steps.prepare(loop.windows_per_step, loop.compiled_steps.fingerprint)
    else:
        loop.compile()
    return loop


def train(loop: TrainingLoop, first: int) -> np.ndarray:
    """The losses of STEPS_PER_CALL updates, of which `first` is the first."""
    windows = loop.windows_of(range(first, first + STEPS_PER_CALL))
    loop.planner.follow()
    steps = loop.compiled_steps
    if isinstance(steps, CompiledSteps):
        return steps.train_steps(windows)["loss"]
    return steps.train(windows, loop.schedule.numbers.numpy().tolist())["loss"]


def measure(case: dict[str, Any], strategy: str, text: Corpus) -> dict[str, Any]:
    """Losses of a case's steps, and how long one took after the first ten."""
    loop = make_loop(case, strategy, text)
    losses = train(loop, 0).tolist()
    begin = time.perf_counter()
    for first in range(STEPS_PER_CALL, case["steps"], STEPS_PER_CALL):
        losses += train(loop, first).tolist()
    seconds = (time.perf_counter() - begin) / (case["steps"] - STEPS_PER_CALL)
    parameters = int(loop.model.count_params())
    return {"name": case["name"], "losses": losses, "seconds": seconds, "parameters": parameters}


def reduce(group: Group, count: int) -> dict[str, float]:
    """Seconds to sum a vector of so many numbers over all processes."""
    vector = np.ones(count, "float32")
    values = group.values(lambda _: vector)
    add = group.compiled(lambda _, given: group.sum(given)[:1])
    add(values)  # which compiles
    repeats = max(5, 2**20 // count)
    begin = time.perf_counter()
    for _ in range(repeats):
        add(values)
    return {"count": count, "seconds": (time.perf_counter() - begin) / repeats}


def main(task: str, cases: list[dict[str, Any]]) -> None:
    """Does the task "reduce" or "train" and prints its results."""
    strategy = "multi-worker" if "TF_CONFIG" in os.environ else "none"
    prepare_device("float32", False)
    if task == "reduce":
        group = join(strategy)
        for count in REDUCED:
            print(json.dumps(reduce(group, count)), flush=True)
        return
    if strategy != "none":
        join(strategy)
    text = corpus()
    for case in cases:
        print(json.dumps(measure(case, strategy, text)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
