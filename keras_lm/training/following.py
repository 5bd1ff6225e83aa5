"""A process of a run with several workers that does what the chief says, and writes nothing."""

from typing import Any

from keras_lm.data.corpus import Corpus
from keras_lm.model.backend import keras
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import ConfigError, RunConfig
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.signals import ending_later, on_ending
from keras_lm.system.terminal import say
from keras_lm.training.distribution import join
from keras_lm.training.loop import TrainingLoop
from keras_lm.training.progress import Progress, Requests, Run
from keras_lm.training.rendezvous import WorkerLost
from keras_lm.training.replicas import DistributedSteps
from keras_lm.training.run import OUT_OF_MEMORY
from keras_lm.training.train_step import OUT_OF_MEMORY_ERRORS, prepare_device


def follow(folder: RunFolder, config: RunConfig, corpus: Corpus, started: float) -> int:
    """Trains as one of the run's workers until the chief ends it.

    Args:
        folder: of the run, which this process does not write.
        config: of the run.
        corpus: its text.
        started: when the process started, `time.time()`.

    Returns:
        The process's exit code: the chief's; 1 when the connection was lost.
    """
    config = config.with_vocab_size(corpus.tokenizer.vocab_size)
    run = Run(folder, config, corpus, Progress(started), Requests(folder), say)
    try:
        order = _obey(run)
    except (ConfigError, WorkerLost) as error:
        say(str(error))
    except OUT_OF_MEMORY_ERRORS:
        say(OUT_OF_MEMORY)
    else:
        say(order["message"])
        return order["code"]
    return 1


def _obey(run: Run) -> dict[str, Any]:
    """Does what the chief orders; returns its last order."""
    policy = prepare_device(run.settings.precision, run.settings.deterministic)
    group = join(run.settings.strategy)
    on_ending(run.requests.stop)  # the chief hears of it with the next step
    loop = None
    while (order := group.next_order())["do"] != "end":
        if order["do"] == "prepare":
            run.progress.rate_factor = order["rate_factor"]
            loop = None  # room for the next one
            loop = _prepare(run, policy, order["fingerprint"])
        elif loop is not None:
            _train(run, loop, **order)
    return order


def _prepare(run: Run, policy: str, fingerprint: str) -> TrainingLoop:
    """Builds the model, and compiles the step together with all others."""
    keras.utils.set_random_seed(run.settings.seed)
    loop = TrainingLoop(run, build_model(run.config.model, policy))
    with ending_later():  # a signal while TensorFlow traces would break it
        _steps_of(loop).prepare(loop.windows_per_step, fingerprint)
    return loop


def _train(run: Run, loop: TrainingLoop, do: str, step: int, count: int, schedule: list) -> None:
    """Makes `count` updates after `step` others, as all processes do at the same time."""
    windows = loop.windows_of(range(step, step + count))
    _steps_of(loop).train(windows, schedule)
    run.progress.step = step + count


def _steps_of(loop: TrainingLoop) -> DistributedSteps:
    assert isinstance(loop.compiled_steps, DistributedSteps)
    return loop.compiled_steps
