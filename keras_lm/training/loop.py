"""The loop of a run: compiled steps, and between them events, samples, checkpoints, the model."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import psutil

from keras_lm.data.large.sharded_corpus import ShardedCorpus
from keras_lm.data.task_corpus import TaskCorpus
from keras_lm.generation.generator import Generator, stream_text
from keras_lm.model.backend import keras
from keras_lm.model.language_model import LanguageModel
from keras_lm.settings.config import GenerationConfig
from keras_lm.storage import run_folder
from keras_lm.storage.cache import seal_programs
from keras_lm.system.terminal import describe
from keras_lm.training.checkpoint import Checkpoint, restore
from keras_lm.training.distribution import join
from keras_lm.training.fed_steps import FedSteps, draw_from
from keras_lm.training.first_text import BEFORE, NOT_MEASURED, FirstText, first_text
from keras_lm.training.held_out import held_out_window
from keras_lm.training.keeping import Diverged, Keeper
from keras_lm.training.optimizers import create_optimizer, schedule_of
from keras_lm.training.planner import Planner
from keras_lm.training.progress import Run, no_values
from keras_lm.training.replicas import DistributedSteps
from keras_lm.training.task_steps import TaskSteps
from keras_lm.training.tensorboard_events import TensorBoard
from keras_lm.training.train_step import (
    METRICS,
    STEPS_PER_CALL,
    CompiledSteps,
    MeanLoss,
    gpu_memory,
)
from keras_lm.training.windows import WindowOrder

CALL_SECONDS = 0.5  # a compiled call should be about this short, so that Stop is noticed soon
STATUS_SECONDS = 1.0  # between two heartbeats
VALIDATION_BATCH_TOKENS = 4096
LARGEST_EXPONENT = 700.0  # whose exponential float64 can hold


Draw = Callable[[int, int], np.ndarray]  # of a step and a count: an update's windows


class PaceMark(NamedTuple):
    """Where the speed is measured from: the position at the last event."""

    step: int
    train_seconds: float


class TrainingLoop:
    """Trains one run's model from where its progress is.

    Args:
        run: the run; its progress is moved, its folder written.
        model: built for its config.
    """

    def __init__(self, run: Run, model: LanguageModel):
        self.run, self.model = run, model
        self.folder, self.corpus, self.progress = run.folder, run.corpus, run.progress
        self.requests, self.settings = run.requests, run.settings
        self.context_length = run.config.model.context_length
        self.windows_per_step = self.settings.batch_size * self.settings.gradient_accumulation
        self.optimizer = create_optimizer(self.settings, model, self._readings_per_step)
        self.compiled_steps, self.draw = self._steps_and_order()
        self.generator = Generator(model)
        self.held_out = held_out_window(self.corpus, self.context_length)
        self.first = first_text(run) if run.config.data.init_from else FirstText(None, "")
        self.schedule = schedule_of(self.optimizer)
        self.planner = Planner(run, self.schedule)
        self.keeper = Keeper(run, model, self.variables)
        self.steps_per_call = 1
        self._first_bits: float | None = None
        self._pace_mark = self._here()
        self._last_status = 0.0

    def _steps_and_order(self) -> tuple[CompiledSteps | DistributedSteps, Draw]:
        """The compiled step of this text or task, and what gives it an update's windows."""
        settings, corpus = self.settings, self.corpus
        accumulation = (settings.gradient_accumulation, settings.clip_norm)
        if isinstance(corpus, TaskCorpus):
            draw = partial(corpus.batch, settings.seed)
            shape = draw(0, self.windows_per_step)
            steps = TaskSteps(self.model, self.optimizer, shape, *accumulation)
        elif isinstance(corpus, ShardedCorpus):
            draw = draw_from(corpus.train, self.context_length, settings.seed)
            shape = draw(0, self.windows_per_step)
            steps = FedSteps(self.model, self.optimizer, shape, *accumulation)
        else:
            draw = WindowOrder(len(corpus.train), self.context_length, settings.seed).offsets
            steps = CompiledSteps(self.model, self.optimizer, corpus.train, *accumulation)
        if settings.strategy == "none":
            return steps, draw
        group = join(settings.strategy)
        return DistributedSteps(group, self.run, steps, self._readings_per_step), draw

    @property
    def _readings_per_step(self) -> float:
        """The part of the training text that one step reads; a task has no end."""
        if isinstance(self.corpus, TaskCorpus):
            return 0.0
        return self.windows_per_step * self.context_length / len(self.corpus.train)

    @property
    def variables(self) -> list[keras.Variable]:
        """Everything that changes while training, in a fixed order."""
        return [*self.model.variables, *self.optimizer.variables]

    def go_to(self, found: Checkpoint | None) -> None:
        """Goes on from a checkpoint; None: from the beginning, with the weights as they are."""
        if found:
            restore(self.variables, found.arrays)
        self.progress.go_to(found)
        self.keeper.go_on()
        self._pace_mark = self._here()
        self.folder.truncate_events(self.progress.step if found else -1)
        self.tensorboard = TensorBoard(self.run)
        if not found and self.settings.sample_every:
            self.held_out.write_texts(self.folder)

    def compile(self) -> None:
        """Compiles the step, and changes nothing."""
        self.compiled_steps.compile(self.windows_per_step)
        self.progress.start_seconds += time.time() - self.progress.started

    def train(self) -> str:
        """Trains to the last step or until asked to end; returns the state that was reached."""
        settings, requests, planner = self.settings, self.requests, self.planner
        self._write_status()
        if self.run.config.data.init_from and not self._step:
            self._note_first_text()
        planner.pace.begin()
        while not self._is_finished:
            self._run_steps(self._next_count())
            planner.replan()
            if self._validation_is_due():
                self._log(self._validate())
                planner.stop_if_hopeless()
            elif self._is_due(settings.log_every):
                self._log()
            requests.listen()
            is_first_point = bool(settings.sample_every) and self._step == settings.log_every
            # The first sample compiles: the page must not wait for it to see the first point.
            if is_first_point or requests.latest or self._status_is_old():
                self._write_status()
            if is_first_point or requests.latest == "sample" or self._is_due(settings.sample_every):
                self._sample()
            if not self._is_finished and self._is_due(settings.checkpoint_every):
                self._save()
            if requests.end_run:
                break
            if planner.must_measure:
                self._measure_chores()
        self._save()
        if self._is_finished:
            return run_folder.FINISHED
        return run_folder.PAUSED if requests.latest == "pause" else run_folder.STOPPED

    @property
    def _step(self) -> int:
        return self.progress.step

    @property
    def _is_finished(self) -> bool:
        return self._step >= self.planner.stage.steps

    def _is_due(self, every: int) -> bool:
        """Whether a thing done every so many steps is due; at the last step it always is."""
        return bool(every) and (self._step % every == 0 or self._is_finished)

    def _validation_is_due(self) -> bool:
        has_text = len(self.corpus.validation) > 0
        return has_text and (self._is_finished or self._is_due(self.settings.eval_every))

    def _next_count(self) -> int:
        """Steps of the next compiled call: never past a step at which something is due."""
        settings = self.settings
        intervals = (
            settings.log_every,
            settings.eval_every,
            settings.sample_every,
            settings.checkpoint_every,
        )
        to_next = [every - self._step % every for every in intervals if every]
        if change := self.planner.next_change:
            to_next.append(change - self._step)
        return min(self.planner.stage.steps - self._step, self.steps_per_call, *to_next)

    def windows_of(self, steps: range) -> np.ndarray:
        """Of some updates, (steps, windows_per_step), and where they are fed the tokens of each."""
        return np.stack([self.draw(step, self.windows_per_step) for step in steps])

    def _run_steps(self, count: int) -> None:
        """Runs one compiled call; Diverged when it gave anything but finite numbers."""
        steps = range(self._step, self._step + count)
        windows = self.windows_of(steps)
        self.planner.follow()
        begin = time.perf_counter()
        values = self.compiled_steps.train_steps(windows)
        seconds = time.perf_counter() - begin
        self.progress.step += count
        self.planner.pace.made(count)
        self.progress.train_seconds += seconds
        for name in METRICS:
            self.progress.pending[name] += values[name].tolist()
        self.steps_per_call = max(1, min(STEPS_PER_CALL, int(CALL_SECONDS / (seconds / count))))
        check_finite("loss", values["loss"], steps)
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            check_finite("gradient", values["grad_norm"], steps)
        elif float(self.optimizer.dynamic_scale) < 1.0:  # each update that is left out halves it
            raise Diverged(f"The gradient was too large for float16 at step {self._step}")

    def _log(self, validation: MeanLoss | None = None) -> None:
        """Writes one event of metrics: means over the updates since the last one.

        Args:
            validation: measured at this step, if it was.
        """
        progress, corpus = self.progress, self.corpus
        means = {name: float(np.mean(values)) for name, values in progress.pending.items()}
        progress.pending = no_values()
        progress.train_loss = means["loss"]
        tokens_per_step = self.windows_per_step * (self.compiled_steps.window_length - 1)
        event: dict[str, Any] = {
            "kind": "metrics",
            "step": self._step,
            "tokens": self._step * tokens_per_step,
            **means,
            "perplexity": perplexity(means["loss"]),
            "bits_per_byte": corpus.bits_per_byte(means["loss"]),
            "learning_rate": self._learning_rate(),
            "tokens_per_second": self._steps_per_second() * tokens_per_step,
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
        }
        if (gpu_bytes := gpu_memory()) is not None:
            event["gpu_memory_mb"] = gpu_bytes / 2**20
        if validation:
            event["val_loss"] = validation.loss
            event["val_accuracy"] = validation.accuracy
            event["val_perplexity"] = perplexity(validation.loss)
            if validation.exact is not None:
                event["task_accuracy"] = validation.exact
            event["val_bits_per_byte"] = corpus.validation_bits_per_byte(validation.loss)
            if self._first_bits is not None:
                event["first_val_bits_per_byte"] = self._first_bits
        event |= {"seconds": progress.seconds, "train_seconds": progress.train_seconds}
        # JSON has no infinity: a gradient that float16 could not hold is left out.
        event = {k: v for k, v in event.items() if not isinstance(v, float) or math.isfinite(v)}
        self.folder.append_event(event)
        self.tensorboard.write(event)
        self.run.report(describe(event, self.planner.known_steps))

    def _learning_rate(self) -> float:
        """The rate of the last update; float16 leaves out those it cannot hold."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return float(self.schedule(max(0, int(optimizer.iterations) - 1)))

    def _here(self) -> PaceMark:
        return PaceMark(self._step, self.progress.train_seconds)

    def _steps_per_second(self) -> float:
        """Speed since the last event."""
        mark, self._pace_mark = self._pace_mark, self._here()
        seconds = self.progress.train_seconds - mark.train_seconds
        return (self._step - mark.step) / max(seconds, 1e-9)

    def _validate(self) -> MeanLoss:
        """Measures the loss of the validation text, which becomes the run's newest."""
        self._write_status("Measuring the validation loss.")
        with self.planner.pace.chore("validation"):
            found = self.compiled_steps.validate(self.corpus.measured, self._validation_batch)
            self.keeper.validated(found.loss)
            self._first_bits = self._measure_first_text()
        return found

    def _measure_first_text(self) -> float | None:
        """Bits per byte on what the initial model learned; None where that is not known."""
        first = self.first.corpus
        if first is None:
            return None
        found = self.compiled_steps.validate(first.measured, self._validation_batch)
        return first.validation_bits_per_byte(found.loss)

    def _note_first_text(self) -> None:
        """Writes what the initial model knows of its first text, before it learns another."""
        bits, words = self._measure_first_text(), self.first.words
        if bits is None:
            self.run.note(NOT_MEASURED.format(reason=words))
        else:
            self.run.note(BEFORE.format(bits=bits, title=words))
            self.folder.write_status(first_bits=bits, first_title=words)

    @property
    def _validation_batch(self) -> int:
        """Windows that are validated at once."""
        return max(1, VALIDATION_BATCH_TOKENS // self.context_length)

    def _sample(self) -> None:
        """Writes one event with a text that the model makes now."""
        with self.planner.pace.chore("sample"):
            sample = self._make_sample()
            self.folder.append_event(sample)
            self.tensorboard.write(sample)
            if self.settings.sample_every:
                self.held_out.write_probabilities(self.folder, self.model, self._step)
            seal_programs()  # the first sample compiles
        self.requests.serve_sample()

    def _make_sample(self) -> dict[str, Any]:
        """What the model writes now, as an event."""
        settings, tokenizer = self.settings, self.corpus.tokenizer
        config = GenerationConfig(max_new_tokens=settings.sample_tokens, seed=settings.seed)
        prompt = settings.sample_prompt or self.corpus.first_words
        text = "".join(stream_text(self.generator, tokenizer, prompt, config))
        event: dict[str, Any] = {"kind": "sample", "step": self._step}
        event |= {"prompt": prompt, "text": text}
        if unknown := tokenizer.unknown(prompt):
            event["unknown"] = unknown
        return event

    def _measure_chores(self) -> None:
        """Does what comes at the end, so that its duration is known; the training stays the same.

        The first time compiles, the second is measured.
        """
        self._save()
        self.planner.has_measured = True
        measured, pace, batch = self.corpus.measured, self.planner.pace, self._validation_batch
        one = min(measured.size, batch * self.context_length)  # tokens of a batch, the first one
        for _ in range(2):
            if one:
                all_tokens = measured.size + self.first.num_tokens
                with pace.chore("validation", times=all_tokens / one):
                    self.compiled_steps.validate(measured, batch, most_batches=1)
            if self.settings.sample_every:
                with pace.chore("sample"):
                    self._make_sample()
        pace.begin()

    def _save(self) -> None:
        with self.planner.pace.chore("checkpoint"):
            self.keeper.save()

    def _status_is_old(self) -> bool:
        return time.time() - self._last_status > STATUS_SECONDS

    def _write_status(self, message: str = "") -> None:
        """Writes step and heartbeat."""
        self._last_status = time.time()
        self.folder.write_status(
            state=run_folder.TRAINING, step=self._step, message=message, **self.planner.status
        )


def perplexity(loss: float) -> float:
    """The number of equally likely tokens with this loss, in nats per token; never infinite.

    Example:
        >>> round(perplexity(0.6931471805599453), 6)
        2.0
    """
    return math.exp(min(loss, LARGEST_EXPONENT))


def check_finite(name: str, values: np.ndarray, steps: range) -> None:
    """Diverged unless all of the steps' values are finite.

    Args:
        name: what they are, for the message.
        values: (steps,) numbers.
        steps: updates made before each of them.
    """
    finite = np.isfinite(values)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise Diverged(f"The {name} became {values[bad]} at step {steps[bad] + 1}")
