"""One run from its config to the finished model, inside its own process.

Everything a reader may want to know goes into the run folder: status, events, checkpoints, model.
"""

import contextlib
import dataclasses
import json
import math
import time
import traceback
from collections.abc import Callable

import numpy as np
import psutil

from keras_lm.data.corpus import Corpus
from keras_lm.export.keras_archive import save_model
from keras_lm.generation.generator import Generator, stream_text
from keras_lm.keras_file.opening import ModelFileError
from keras_lm.model.backend import keras
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import GenerationConfig, RunConfig, TrainingConfig
from keras_lm.storage import run_folder
from keras_lm.storage.cache import seal_programs
from keras_lm.storage.files import open_plain, write_atomically
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.signals import is_ending, on_ending
from keras_lm.system.terminal import describe, report_progress, say
from keras_lm.training.checkpoint import Checkpoint, latest_checkpoint, restore, save_checkpoint
from keras_lm.training.optimizers import create_optimizer
from keras_lm.training.train_step import (
    METRICS,
    OUT_OF_MEMORY_ERRORS,
    STEPS_PER_CALL,
    Training,
    gpu_memory,
    prepare_device,
)
from keras_lm.training.windows import WindowOrder

CALL_SECONDS = 0.5  # a compiled call should be about this short, so that Stop is heard
VALIDATION_BATCH_TOKENS = 4096
LOWER_RATE = 0.25  # of the learning rate, when training diverged once
ROLLED_BACK = "{reason}: went back to step {step} and on with a quarter of the learning rate."
DIVERGED = (
    "{reason}: training diverged. Lower the learning rate (now {learning_rate:g}), lengthen the "
    "warm-up or switch gradient clipping on."
)
FELL_BACK = "The checkpoint of step {damaged} is damaged: went on from {origin}."
CHANGED = (
    "The text or its tokenizer is another one than that of the checkpoint at step {step}: put the "
    "old text back and go on, or start a new run with the same settings "
    "(train --like {path} --run-dir NEW)."
)
DISK_REFUSED = (
    "The disk refused at step {step}: {reason}. What was saved before is intact: make room or "
    "permit writing, then go on from the newest checkpoint."
)
OUT_OF_MEMORY = "Memory ran out. Lower batch_size, context_length or d_model and start again."


class Diverged(ArithmeticError):
    """Loss, gradient or weights are no longer finite numbers; the message says which, when."""


class ChangedText(ValueError):
    """The run's text is not the one that its checkpoint was made with."""


class Run:
    """A run in progress.

    Args:
        folder: its folder, which holds its config.
        config: with model.vocab_size filled in.
        corpus: its text, as tokens.
        started: when the process started, `time.time()`.
        report: called with a line of progress at every point of the loss curve.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        corpus: Corpus,
        started: float,
        report: Callable[[str], None],
    ):
        self.folder, self.config, self.corpus = folder, config, corpus
        self.started, self.report = started, report
        self.request: str | None = None
        self.steps_per_call = 1
        self.train_loss: float | None = None
        self._last_status = 0.0
        self._set_position()

    def _set_position(
        self,
        step: int = 0,
        seconds: float = 0.0,  # of the process's predecessors, when the run was resumed
        train_seconds: float = 0.0,
        pending: dict[str, list] | None = None,  # of the updates since the last event
        val_loss: float | None = None,  # the last one measured
        text_sha256: str = "",
    ) -> None:
        """Where the run stands: at its beginning, or where a checkpoint says."""
        self.step, self.earlier_seconds, self.train_seconds = step, seconds, train_seconds
        self.val_loss = val_loss
        self.pending = pending or {name: [] for name in METRICS}
        self._rate_mark = (step, train_seconds)

    def run(self) -> str:
        """Trains to the end, as `train`; when it diverges, once more from the newest checkpoint."""
        self.prepare()
        if is_ending():  # heard amid TensorFlow, which went on
            raise KeyboardInterrupt
        # Ctrl-C, a closed terminal and a shutdown keep the model, as the page's Stop does.
        on_ending(lambda: setattr(self, "request", "stop"))
        try:
            return self.train()
        except Diverged as error:
            if self.rate_factor < 1.0:
                raise
            reason = str(error)
        self.folder.write_status(rate_factor=LOWER_RATE)
        del self.model, self.optimizer, self.training, self.generator  # room for the next ones
        again = time.time()
        self.prepare()
        if self.step:
            self.started = again  # the checkpoint counts the time before itself
        self.note(ROLLED_BACK.format(reason=reason, step=self.step))
        return self.train()

    @property
    def rate_factor(self) -> float:
        """What the learning rate is multiplied by: below 1 after training diverged once."""
        return self.folder.read_status().get("rate_factor", 1.0)

    def prepare(self) -> None:
        """Builds the model, restores the newest checkpoint if there is one, compiles the step."""
        found, damaged = latest_checkpoint(self.folder.checkpoints)
        self._check_text(found)
        self.folder.remove_leftovers(before=self.started)
        self.folder.write_config(self.config.to_dict())
        tokenizer = self.corpus.tokenizer.to_dict()
        write_atomically(self.folder.tokenizer_file, json.dumps(tokenizer).encode())
        settings = scale_rate(self.config.training, self.rate_factor)
        self.folder.write_status(message="Building the model.")
        policy = prepare_device(settings.precision, settings.deterministic)
        keras.utils.set_random_seed(settings.seed)
        self.model = build_model(self.config.model, policy)
        self.optimizer = create_optimizer(settings, self.model)
        self.training = Training(
            self.model,
            self.optimizer,
            self.corpus.train,
            settings.gradient_accumulation,
            settings.clip_norm,
        )
        self.generator = Generator(self.model)
        self.windows_per_step = settings.batch_size * settings.gradient_accumulation
        self.order = WindowOrder(
            len(self.corpus.train), self.config.model.context_length, settings.seed
        )
        self._restore(found)
        origin = f"step {self.step}" if found else "the beginning"
        del found  # its arrays are as large as the run's own
        if damaged:
            self.note(FELL_BACK.format(damaged=damaged[0], origin=origin))
        self.folder.write_status(
            state=run_folder.PREPARING,
            message="Compiling the first step.",
            step=self.step,
            steps=settings.steps,
            parameters=self.model.count_params(),
            precision=policy,
            unigram_entropy=self.corpus.unigram_entropy,
            vocab_size=self.config.model.vocab_size,
            train_tokens=len(self.corpus.train),
            validation_tokens=len(self.corpus.validation),
        )
        self.training.compile(self.windows_per_step)
        seal_programs()

    @property
    def variables(self) -> list:
        """Everything that changes while training, in a fixed order."""
        return [*self.model.variables, *self.optimizer.variables]

    def _check_text(self, found: Checkpoint | None) -> None:
        """ChangedText when the checkpoint was made with other tokens than the corpus has."""
        before = found and found.position.get("text_sha256")
        if before and before != self.corpus.sha256:
            self.step = found.step
            raise ChangedText(CHANGED.format(step=found.step, path=self.folder.path))

    def _restore(self, found: Checkpoint | None) -> None:
        if found is None:
            self._set_position()
            self.folder.truncate_events(last_step=-1)
            return
        restore(self.variables, found.arrays)
        # An entry that earlier versions wrote and none reads.
        position = {key: value for key, value in found.position.items() if key != "last_logged"}
        self._set_position(found.step, **position)
        self.folder.truncate_events(self.step)

    def note(self, message: str) -> None:
        """Tells the person what happened to the run, as an event."""
        self.folder.append_event({"kind": "note", "step": self.step, "message": message})
        self.report(message)

    def train(self) -> str:
        """Trains to the last step or until asked to stop; returns the state that was reached."""
        settings = self.config.training
        self._write_status(force=True)
        while self.step < settings.steps:
            self._run_steps(self._next_count())
            if self._due(settings.log_every) or self._validation_due():
                self._log()
            is_first_point = bool(settings.sample_every) and self.step == settings.log_every
            self._write_status(force=is_first_point)  # before the first sample, which compiles
            if is_first_point or self._due(settings.sample_every) or self.request == "sample":
                self._sample()
            if self._due(settings.checkpoint_every) and self.step < settings.steps:
                self._save_checkpoint()
            if self.request in ("stop", "pause") and self.step < settings.steps:
                break
        if self.step < settings.steps:
            self._save_checkpoint()
            return run_folder.PAUSED if self.request == "pause" else run_folder.STOPPED
        self._save_model()
        return run_folder.FINISHED

    def _due(self, every: int) -> bool:
        """Whether a thing done every so many steps is due; at the last step it always is."""
        return bool(every) and (self.step % every == 0 or self.step == self.config.training.steps)

    def _validation_due(self) -> bool:
        at_the_end = self.step == self.config.training.steps
        has_text = len(self.corpus.validation) > 0
        return has_text and (at_the_end or self._due(self.config.training.eval_every))

    def _next_count(self) -> int:
        """Steps of the next compiled call: never past a step at which something is due."""
        settings = self.config.training
        intervals = (
            settings.log_every,
            settings.eval_every,
            settings.sample_every,
            settings.checkpoint_every,
        )
        to_next = [every - self.step % every for every in intervals if every]
        return min(settings.steps - self.step, self.steps_per_call, *to_next)

    def _run_steps(self, count: int) -> None:
        steps = range(self.step, self.step + count)
        offsets = np.stack([self.order.offsets(step, self.windows_per_step) for step in steps])
        begin = time.perf_counter()
        values = self.training.train_steps(offsets)
        seconds = time.perf_counter() - begin
        self.step += count
        self.train_seconds += seconds
        for name in METRICS:
            self.pending[name] += values[name].tolist()
        self.steps_per_call = max(1, min(STEPS_PER_CALL, int(CALL_SECONDS / (seconds / count))))
        self._check_finite("loss", values["loss"], steps)
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            self._check_finite("gradient", values["grad_norm"], steps)
        elif float(self.optimizer.dynamic_scale) < 1.0:  # each update that is left out halves it
            raise Diverged(f"The gradient was too large for float16 at step {self.step}")

    def _check_finite(self, name: str, values: np.ndarray, steps: range) -> None:
        """Diverged unless all of the steps' values are finite."""
        finite = np.isfinite(values)
        if not finite.all():
            bad = int(np.argmin(finite))
            raise Diverged(f"The {name} became {values[bad]} at step {steps[bad] + 1}")

    def _log(self) -> None:
        """Writes one event of metrics: means over the updates since the last one."""
        settings = self.config.training
        means = {name: float(np.mean(values)) for name, values in self.pending.items()}
        self.pending = {name: [] for name in METRICS}
        self.train_loss = means["loss"]
        tokens_per_step = self.windows_per_step * self.config.model.context_length
        event = {
            "kind": "metrics",
            "step": self.step,
            "tokens": self.step * tokens_per_step,
            **means,
            "perplexity": math.exp(min(means["loss"], 700.0)),
            "bits_per_byte": self.corpus.bits_per_byte(means["loss"]),
            "learning_rate": self._learning_rate(),
            "tokens_per_second": self._steps_per_second() * tokens_per_step,
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
        }
        if (gpu_bytes := gpu_memory()) is not None:
            event["gpu_memory_mb"] = gpu_bytes / 2**20
        if self._validation_due():
            event |= self._validate()
        event |= {"seconds": self._seconds(), "train_seconds": self.train_seconds}
        # JSON has no infinity: a gradient that float16 could not hold is left out.
        event = {k: v for k, v in event.items() if not isinstance(v, float) or math.isfinite(v)}
        self.folder.append_event(event)
        self.report(describe(event, settings.steps))

    def _learning_rate(self) -> float:
        """The rate of the last update; float16 leaves out those it cannot hold."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return float(optimizer._learning_rate(max(0, int(optimizer.iterations) - 1)))

    def _steps_per_second(self) -> float:
        """Speed since the last event."""
        mark_step, mark_seconds = self._rate_mark
        self._rate_mark = (self.step, self.train_seconds)
        return (self.step - mark_step) / max(self.train_seconds - mark_seconds, 1e-9)

    def _validate(self) -> dict[str, float]:
        self._write_status(message="Measuring the validation loss.", force=True)
        batch_size = max(1, VALIDATION_BATCH_TOKENS // self.config.model.context_length)
        values = self.training.validate(self.corpus.validation, batch_size)
        self.val_loss = values["loss"] if math.isfinite(values["loss"]) else None
        return {
            "val_loss": values["loss"],
            "val_accuracy": values["accuracy"],
            "val_perplexity": math.exp(min(values["loss"], 700.0)),
            "val_bits_per_byte": self.corpus.validation_bits_per_byte(values["loss"]),
        }

    def _sample(self) -> None:
        settings, tokenizer = self.config.training, self.corpus.tokenizer
        config = GenerationConfig(max_new_tokens=settings.sample_tokens, seed=settings.seed)
        prompt = settings.sample_prompt or self.corpus.first_words
        pieces = stream_text(self.generator, tokenizer, prompt, config)
        event = {"kind": "sample", "step": self.step, "prompt": prompt, "text": "".join(pieces)}
        if unknown := tokenizer.unknown(prompt):
            event["unknown"] = unknown
        self.folder.append_event(event)
        seal_programs()  # the first sample compiles
        if self.request == "sample":
            self.request = None

    @property
    def newest_loss(self) -> float | None:
        """Of the newest validation; where nothing is validated, of the newest point."""
        return self.train_loss if self.val_loss is None else self.val_loss

    def _save_checkpoint(self) -> None:
        position = {
            "seconds": self._seconds(),
            "train_seconds": self.train_seconds,
            "pending": self.pending,
            "val_loss": self.val_loss,
            "text_sha256": self.corpus.sha256,
        }
        self._check_weights()
        self.folder.flush_events()  # those up to a checkpoint are as safe as itself
        save_checkpoint(self.folder.checkpoints, self.step, self.variables, position)
        self._save_model()

    def _save_model(self) -> None:
        self._check_weights()
        save_model(self.folder.model_file, self.model, self.corpus.tokenizer.to_dict())

    def _check_weights(self) -> None:
        """Diverged when there is a weight that is no number: what is kept must be usable."""
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise Diverged(f"A weight was no longer a finite number at step {self.step}")

    def _seconds(self) -> float:
        return self.earlier_seconds + time.time() - self.started

    def _write_status(self, message: str = "", force: bool = False) -> None:
        """Tells step and heartbeat, at most once a second, and hears what is asked."""
        self.request = self.folder.take_request() or self.request
        if force or time.time() - self._last_status > 1.0 or self.request:
            self._last_status = time.time()
            self.folder.write_status(state=run_folder.TRAINING, step=self.step, message=message)


def train(folder: RunFolder, config: RunConfig, corpus: Corpus, started: float) -> int:
    """Trains the run in `folder` to its end; goes on from its newest checkpoint if it has one.

    Args:
        folder: its config is written again, with the vocabulary's size.
        config: of the run.
        corpus: its text.
        started: when the process started, `time.time()`.

    Returns:
        The process's exit code: 0, or 1 when the run failed, with the reason in its status.
    """
    config = config.with_vocab_size(corpus.tokenizer.vocab_size)
    run = Run(folder, config, corpus, started, report_progress)
    try:
        state = run.run()
        folder.take_request()  # one that came too late
        folder.write_status(state=state, step=run.step, message="", loss=run.newest_loss)
    except Diverged as error:
        rate = scale_rate(config.training, run.rate_factor).learning_rate
        return _fail(folder, run, DIVERGED.format(reason=error, learning_rate=rate))
    except (ChangedText, ModelFileError) as error:
        return _fail(folder, run, str(error))
    except OUT_OF_MEMORY_ERRORS:
        return _fail(folder, run, OUT_OF_MEMORY)
    except OSError as error:
        reason = error.strerror or error
        message = DISK_REFUSED.format(step=run.step, reason=reason)
        return _fail(folder, run, message, run_folder.PAUSED)
    except Exception as error:  # a fault of ours: the log keeps what a person need not see
        if is_ending():  # amid TensorFlow, which made an error of it
            raise KeyboardInterrupt from None
        with contextlib.suppress(OSError), open_plain(folder.log_file, "ab") as log:
            log.write(traceback.format_exc().encode(errors="replace"))
        reason = str(error).strip().splitlines() or [""]
        return _fail(folder, run, f"{type(error).__name__}: {reason[0]:.300} (more in log.txt)")
    say(f"{state}: {folder.model_file}")
    return 0


def scale_rate(settings: TrainingConfig, factor: float) -> TrainingConfig:
    """The settings with the learning rate and its floor multiplied by `factor`."""
    rate, floor = factor * settings.learning_rate, factor * settings.min_learning_rate
    return dataclasses.replace(settings, learning_rate=max(rate, 1e-7), min_learning_rate=floor)


def _fail(folder: RunFolder, run: Run, message: str, state: str = run_folder.FAILED) -> int:
    say(message)
    with contextlib.suppress(OSError):  # a disk that refuses even this: the log has the reason
        folder.write_status(state=state, step=run.step, message=message)
    return 1
