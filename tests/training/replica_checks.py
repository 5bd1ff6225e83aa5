"""Trains small models by two and four virtual devices and beside that by one; prints what it saw.

A program of its own, since TensorFlow's devices can be divided only before its first operation.
One JSON object goes to standard output: see `tests/training/test_replicas.py`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from keras_lm.data.corpus import Corpus, prepare
from keras_lm.data.preparation import prepare as prepare_any
from keras_lm.data.task_corpus import TaskCorpus, signed
from keras_lm.data.tokenizers import CharTokenizer
from keras_lm.model.backend import keras, tf
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import ConfigError, DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.storage.run_folder import RunFolder
from keras_lm.training import distribution, loop, run
from keras_lm.training.distribution import Group
from keras_lm.training.loop import TrainingLoop
from keras_lm.training.progress import Progress, Requests, Run
from keras_lm.training.train_step import METRICS

MODEL = ModelConfig(context_length=7, d_model=6, num_heads=1, num_blocks=1, ffn_dim=5)
TRAINING = TrainingConfig(batch_size=4, warmup_steps=3, learning_rate=0.01, precision="float32")


def text() -> Corpus:
    """A few hundred letters in random order, of which nothing is validated."""
    ids = np.random.default_rng(1).integers(0, 20, 600).astype("int32")
    tokenizer = CharTokenizer.from_text("abcdefghijklmnopqrst")
    return Corpus(tokenizer, ids, ids[:0], MODEL.context_length)


def make_loop(folder: Path, corpus, policy="float32", dropout=0.0, **training) -> TrainingLoop:
    """A run's loop with the same first weights each time; not compiled yet."""
    model = MODEL.changed(vocab_size=corpus.tokenizer.vocab_size, dropout=dropout)
    data = DataConfig("task:reverse", task_length=3)
    data = data if isinstance(corpus, TaskCorpus) else DataConfig("alice")
    config = RunConfig(model, data, TRAINING.changed(**training))
    whole = Run(
        RunFolder(folder),
        config,
        corpus,
        Progress(time.time()),
        Requests(RunFolder(folder)),
        lambda line: None,
    )
    keras.utils.set_random_seed(7)
    made = TrainingLoop(whole, build_model(config.model, policy))
    if isinstance(corpus, TaskCorpus):
        made.draw = uneven_rows
    return made


def uneven_rows(step: int, count: int) -> np.ndarray:
    """Instances of which the first ones have many answers and the last ones few."""
    random = np.random.default_rng(step)
    is_answer = np.arange(8) > np.linspace(0, 6, count)[:, None]
    return signed(random.integers(0, 5, (count, 8)), is_answer).astype("int32")


def train(made: TrainingLoop, steps: int) -> list[list[float]]:
    """METRICS of so many steps."""
    made.compile()
    values = []
    for first in range(0, steps, 10):
        found = made.compiled_steps.train_steps(made.windows_of(range(first, first + 10)))
        made.progress.step = first + 10
        values += np.stack([found[name] for name in METRICS], 1).tolist()
    return values


def arrays(replica) -> list[np.ndarray]:
    """What all replicas must have in common."""
    seeds = {id(seed) for seed in replica.seeds}
    return [np.array(variable) for variable in replica.variables if id(variable) not in seeds]


def compare(folder: Path, group: Group, steps: int, corpus, **changes) -> dict:
    """The same training by one device and by a group."""
    alone = train(make_loop(folder, corpus, **changes), steps)
    distribution._joined[:] = [group]
    shared = make_loop(folder, corpus, strategy="mirrored", **changes)
    together = train(shared, steps)
    first, *others = (arrays(replica) for replica in shared.compiled_steps._replicas)
    equal = [all(map(np.array_equal, first, other)) for other in others]
    seen = {"alone": alone, "together": together, "replicas_equal": equal}
    return seen | (poisoned(shared) if changes.get("policy") == "mixed_float16" else {})


def poisoned(made: TrainingLoop) -> dict:
    """The second replica's weights become infinite for a step."""
    replicas = made.compiled_steps._replicas
    first = made.progress.step
    kernel, before = replicas[1].variables[0], made.model.get_weights()
    sound, scales = np.array(kernel), [scale_of(replica) for replica in replicas]
    kernel.assign(np.full(kernel.shape, np.inf))
    found = made.compiled_steps.train_steps(made.windows_of(range(first, first + 1)))
    kept = all(map(np.array_equal, made.model.get_weights(), before))
    later = [scale_of(replica) for replica in replicas]
    kernel.assign(sound)
    after = made.compiled_steps.train_steps(made.windows_of(range(first + 1, first + 2)))
    return {
        "is_finite": [bool(np.isfinite(found[name][0])) for name in ("loss", "grad_norm")],
        "weights_kept": kept,
        "scales": [scales, later],
        "next_loss": float(after["loss"][0]),
    }


def scale_of(replica) -> float:
    """The loss scale; 1 without one."""
    return float(getattr(replica._steps.optimizer, "dynamic_scale", 1.0))


def with_dropout(folder: Path, group: Group) -> dict:
    """Of each replica the first seed of dropout, after two steps; then one becomes infinite."""
    distribution._joined[:] = [group]
    made = make_loop(folder, text(), dropout=0.2, strategy="mirrored")
    made.compile()
    made.compiled_steps.train_steps(made.windows_of(range(2)))
    seeds = [np.array(replica.seeds[0]).tolist() for replica in made.compiled_steps._replicas]
    return {"seeds": seeds} | poisoned(made)


def whole_run(folder: Path, group: Group, config: RunConfig) -> None:
    """The run of `config` from its beginning to its end, with XLA, by two replicas."""
    distribution._joined[:] = [group]
    run.report_progress = lambda line: None
    made = RunFolder(folder)
    made.create()
    corpus = prepare(config.data, config.model.context_length)
    assert run.train(made, config, corpus, time.time()) == 0


def without_xla(monkeypatched=loop) -> None:
    """Programs are traced but not compiled, which takes seconds."""
    for name in ("CompiledSteps", "TaskSteps"):
        compiled = getattr(monkeypatched, name)
        setattr(monkeypatched, name, lambda *a, c=compiled: c(*a, jit_compile=False))


def main(folder: Path, config_file: Path) -> None:
    """Prints all checks; leaves the run of `config_file` in `folder`/straight."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    # Two groups that reduce by collective operations would be one to TensorFlow.
    by_one = tf.distribute.ReductionToOneDevice()
    two = Group(tf.distribute.MirroredStrategy(names[:2], cross_device_ops=by_one))
    four = Group(tf.distribute.MirroredStrategy(names))
    whole_run(folder / "straight", two, RunConfig.from_dict(json.loads(config_file.read_text())))
    without_xla()
    task = prepare_any(DataConfig("task:reverse", task_length=3), 7)
    found = {
        "adamw": compare(folder, four, 50, text()),
        "muon": compare(folder, two, 50, text(), optimizer="muon", gradient_accumulation=2),
        "float16": compare(folder, two, 10, text(), policy="mixed_float16"),
        "task": compare(folder, two, 10, task, gradient_accumulation=2),
        "dropout": with_dropout(folder, two),
    }
    try:
        make_loop(folder, text(), strategy="mirrored", batch_size=5)
    except ConfigError as error:
        found["indivisible"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
