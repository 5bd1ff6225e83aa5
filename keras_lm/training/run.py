"""One run from its config to the finished model, inside its own process.

Everything a reader may want to know goes into the run folder: status, events, checkpoints, model.
"""

import contextlib
import json
import time
import traceback

import numpy as np

from keras_lm.data.corpus import Corpus
from keras_lm.data.tokenizers import TokenizerError, rows_within, tokenizer_from_dict
from keras_lm.keras_file.initial import initial_weights
from keras_lm.keras_file.opening import ModelFileError, read_model_file
from keras_lm.model.backend import keras
from keras_lm.model.language_model import LanguageModel, build_model
from keras_lm.model.low_rank import add_adapters
from keras_lm.settings.config import ConfigError, RunConfig
from keras_lm.settings.longer import Longer
from keras_lm.storage import run_folder
from keras_lm.storage.cache import seal_programs
from keras_lm.storage.files import append_plain, sha256, write_atomically
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.machine import describe_machine, load_of_others, versions
from keras_lm.system.signals import ending_later, is_ending, on_ending
from keras_lm.system.terminal import report_progress, say
from keras_lm.training.checkpoint import Checkpoint, latest_checkpoint
from keras_lm.training.distribution import dismiss, join
from keras_lm.training.loop import Diverged, TrainingLoop
from keras_lm.training.progress import Progress, Requests, Run
from keras_lm.training.rendezvous import WorkerLost
from keras_lm.training.train_step import OUT_OF_MEMORY_ERRORS, prepare_device

LOWER_RATE = 0.25  # of the learning rate, when training diverged once
ROLLED_BACK = (
    "{reason}: went back to step {step} and continued with a quarter of the learning rate."
)
DIVERGED = (
    "{reason}: training diverged. Lower the learning rate (now {learning_rate:g}), lengthen the "
    "warm-up or switch gradient clipping on."
)
FELL_BACK = "The checkpoint of step {damaged} is damaged: went on from {origin}."
CHANGED = (
    "The text or its tokenizer is not the one of the checkpoint at step {step}: put the old text "
    "back and resume, or start a new run with the same settings "
    "(train --like {path} --run-dir NEW)."
)
CHANGED_TASK = (
    "The task was made in another way, by an earlier version, at the checkpoint of step {step}: "
    "start a new run with the same settings (train --like {path} --run-dir NEW)."
)
DISK_REFUSED = (
    "The disk refused at step {step}: {reason}. What was saved before is intact: make room or "
    "permit writing, then go on from the newest checkpoint."
)
LORA = (
    "LoRA of rank {rank} trains {trained:,} weights; the {count:,} of the model that it goes on "
    "with stay as they are."
)
OUT_OF_MEMORY = "Memory ran out. Lower batch_size, context_length or d_model and start again."


class ChangedText(ValueError):
    """The run's text is not the one that its checkpoint was made with."""


def train(
    folder: RunFolder,
    config: RunConfig,
    corpus: Corpus,
    started: float,
    longer: Longer | None = None,
) -> int:
    """Trains the run in `folder` to its end; goes on from its newest checkpoint if it has one.

    Args:
        folder: its config is written again, with the vocabulary's size.
        config: of the run.
        corpus: its text.
        started: when the process started, `time.time()`.
        longer: trains by so much more than was planned, from where the run is.

    Returns:
        The process's exit code: 0, or 1 when the run failed, with the reason in its status.
    """
    config = config.with_vocab_size(corpus.tokenizer.vocab_size)
    # An earlier process of this run may have lowered the rate.
    progress = Progress(started, rate_factor=folder.read_status().get("rate_factor", 1.0))
    run = Run(folder, config, corpus, progress, Requests(folder), report_progress)
    try:
        state = train_to_the_end(run, longer)
        folder.take_request()  # a request that came too late
        loss = progress.newest_loss
        folder.write_status(state=state, step=progress.step, message="", loss=loss)
    except Diverged as error:
        rate = run.settings.learning_rate
        return _fail(run, DIVERGED.format(reason=error, learning_rate=rate))
    except (ChangedText, ConfigError, ModelFileError, TokenizerError) as error:
        return _fail(run, str(error))
    except WorkerLost as error:
        return _fail(run, str(error), run_folder.INTERRUPTED)
    except OUT_OF_MEMORY_ERRORS:
        return _fail(run, OUT_OF_MEMORY)
    except OSError as error:
        reason = error.strerror or error
        message = DISK_REFUSED.format(step=progress.step, reason=reason)
        return _fail(run, message, run_folder.PAUSED)
    except Exception as error:  # a defect of this program: the traceback goes to the log
        if is_ending():  # TensorFlow turned the interrupt into this error
            raise KeyboardInterrupt from None
        with contextlib.suppress(OSError), append_plain(folder.log_file) as log:
            log.write(traceback.format_exc().encode(errors="replace"))
        reason = str(error).strip().splitlines() or [""]
        return _fail(run, f"{type(error).__name__}: {reason[0]:.300} (more in log.txt)")
    say(f"{state}: {folder.model_file}")
    dismiss(f"The run is {state}.", 0)
    return 0


def _fail(run: Run, message: str, state: str = run_folder.FAILED) -> int:
    say(message)
    with contextlib.suppress(OSError):  # a disk that refuses even this: the log has the reason
        run.folder.write_status(state=state, step=run.progress.step, message=message)
    dismiss(message, 1)
    return 1


def train_to_the_end(run: Run, longer: Longer | None = None) -> str:
    """Trains until it is finished or asked to end; returns the state that was reached.

    When training diverges for the first time, it goes back to the newest checkpoint and on at
    LOWER_RATE.

    Raises:
        Diverged: the second time.
    """
    loop = prepare(run)
    if is_ending():  # the interrupt fell into TensorFlow, which went on
        raise KeyboardInterrupt
    # Ctrl-C, a closed terminal and a shutdown keep the model, as the page's Stop does.
    on_ending(run.requests.stop)
    if longer:
        loop.planner.train_longer(longer)
    try:
        return loop.train()
    except Diverged as error:
        if run.progress.rate_factor < 1.0:
            raise
        reason = str(error)
    del loop  # room for the next one
    begun, again = run.progress.started, time.time()
    run.progress.rate_factor = LOWER_RATE
    run.folder.write_status(rate_factor=LOWER_RATE)
    loop = prepare(run)
    if run.progress.step:
        run.progress.started = again  # the checkpoint counts the time before itself
        run.progress.start_seconds -= again - begun  # which `prepare` took for its start
    run.note(ROLLED_BACK.format(reason=reason, step=run.progress.step))
    return loop.train()


def prepare(run: Run) -> TrainingLoop:
    """Builds the model, restores the newest checkpoint if there is one, compiles the step.

    Raises:
        ChangedText: when the checkpoint was made with other tokens than the corpus has.
        ModelFileError: when it was made with a model of another shape.
    """
    folder, config, settings = run.folder, run.config, run.settings
    found, damaged = latest_checkpoint(folder.checkpoints)
    _check_text(run, found)
    folder.remove_leftovers(before=run.progress.started)
    folder.write_status(message="Building the model.")
    policy = prepare_device(settings.precision, settings.deterministic)
    if settings.strategy != "none":
        folder.write_status(message="Waiting for all devices.")
        join(settings.strategy)
    keras.utils.set_random_seed(settings.seed)
    model = build_model(config.model, policy)
    trained = ""
    if config.data.init_from:
        trained = _go_on_with_initial(run, model, is_new=found is None)
    loop = TrainingLoop(run, model)
    loop.go_to(found)  # only what fits is written over
    if trained:
        run.note(trained)
    folder.write_config(config.to_dict())
    tokenizer = run.corpus.tokenizer.to_dict()
    write_atomically(folder.tokenizer_file, json.dumps(tokenizer).encode())
    origin = f"step {run.progress.step}" if found else "the beginning"
    del found  # its arrays are as large as the run's own
    if damaged:
        run.note(FELL_BACK.format(damaged=damaged[0], origin=origin))
    folder.write_status(
        state=run_folder.PREPARING,
        message="Compiling the first step.",
        step=run.progress.step,
        **loop.planner.status,
        parameters=config.model.parameter_count(),
        precision=policy,
        machine=describe_machine(),
        others=load_of_others(),
        versions=versions(),
        unigram_entropy=run.corpus.unigram_entropy,
        vocab_size=config.model.vocab_size,
        train_tokens=len(run.corpus.train),
        validation_tokens=len(run.corpus.validation),
    )
    with ending_later():  # a signal while TensorFlow traces would break it
        loop.compile()
    seal_programs()
    return loop


def _go_on_with_initial(run: Run, model: LanguageModel, is_new: bool) -> str:
    """Gives a new run the weights of the model that it goes on with; with LoRA, freezes them.

    Returns a sentence about what is trained; "" when that is all of them, or known already.
    """
    rank = run.settings.lora_rank
    if not is_new and not rank:
        return ""
    file, tokenizer = run.folder.initial_model, run.corpus.tokenizer
    content = read_model_file(file)
    if is_new:
        fresh = model.get_weights()
        model.set_weights(initial_weights(content, tokenizer, run.config.model, fresh))
        run.folder.write_status(init_sha256=sha256(file))
    if not rank:
        return ""
    known = rows_within(tokenizer, tokenizer_from_dict(content.tokenizer))
    new_tokens = np.setdiff1d(np.arange(tokenizer.vocab_size), known)
    add_adapters(model, rank, new_tokens)
    trained, count = run.config.trained_count(len(new_tokens)), model.config.parameter_count()
    return LORA.format(rank=rank, trained=trained, count=count) if is_new else ""


def _check_text(run: Run, found: Checkpoint | None) -> None:
    before = found and found.position.get("text_sha256")
    if found and before and before != run.corpus.sha256:
        run.progress.step = found.step
        words = CHANGED_TASK if run.config.data.task else CHANGED
        raise ChangedText(words.format(step=found.step, path=run.folder.path))
