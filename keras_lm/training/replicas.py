"""The training step of several replicas: each one's gradients, their sum, one and the same update.

Gradients are reduced first, then clipped and checked, so that what is done with them is the same
on all replicas: a number that is not finite on one of them is so on all. XLA compiles the gradients
and the update; the reduction stands between them.
"""

import copy
import hashlib
import json
from typing import Any

import numpy as np

from keras_lm.model.backend import keras, tf
from keras_lm.model.language_model import build_model
from keras_lm.model.tracing import traced
from keras_lm.training.distribution import Group
from keras_lm.training.optimizers import create_optimizer, schedule_of
from keras_lm.training.progress import Run
from keras_lm.training.train_step import METRICS, CompiledSteps, MeanLoss, MicroBatch

SEED_DISTANCE = 0x61C88647  # between the replicas' seeds of dropout: odd, and far from 0


class Replica:
    """One device's copy of model and optimizer, with its two programs.

    Args:
        steps: of its model and its optimizer.
        device: where it is.
    """

    def __init__(self, steps: CompiledSteps, device: str):
        self._steps, self._device = steps, device
        model, optimizer = steps.model, steps.optimizer
        self.schedule = schedule_of(optimizer)
        self.variables: list[keras.Variable] = [*model.variables, *optimizer.variables]
        weights = {id(weight) for weight in model.weights}
        self.seeds = [seed for seed in model.variables if id(seed) not in weights]

    def compile(self, rows: tuple[int, ...]) -> None:
        """Traces its programs for its share of an update.

        Args:
            rows: (gradient_accumulation, batch, length + 1), the shape of what it gets.
        """
        weights = self._steps.model.trainable_variables
        self._sizes = [int(np.prod(weight.shape)) for weight in weights]
        shapes = (rows, tf.int32), (rows[:1], tf.float32), ((), tf.float32)
        flat = (sum(self._sizes) + 3,), tf.float32
        jit = self._steps.jit_compile
        with tf.device(self._device):
            self.gradients = traced(self._gradients, jit).get_concrete_function(
                *(tf.TensorSpec(*shape) for shape in shapes)
            )
            self.update = traced(self._update, jit).get_concrete_function(tf.TensorSpec(*flat))

    def _gradients(self, rows: tf.Tensor, weights: tf.Tensor, wish: tf.Tensor) -> tf.Tensor:
        """All gradients of its share, loss, accuracy and `wish` in one vector, to be reduced.

        Args:
            rows: (gradient_accumulation, batch, length + 1) token ids.
            weights: (gradient_accumulation,) what the means of each micro-batch count.
            wish: scalar, 1 when this process wants the run to stop.
        """

        def weighted(index):
            micro, weight = self._steps.gradients(rows[index]), weights[index]
            gradients = [weight * gradient for gradient in micro.gradients]
            return MicroBatch(weight * micro.loss, weight * micro.accuracy, gradients)

        total = self._steps.accumulate(weighted)
        parts = [*total.gradients, total.loss, total.accuracy, wish]
        return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

    def _update(self, reduced: tf.Tensor) -> tf.Tensor:
        """One update by the mean of what `gradients` gave; returns METRICS and wishes, (4,)."""
        *gradients, loss, accuracy, wish = tf.split(reduced, [*self._sizes, 1, 1, 1])
        weights = self._steps.model.trainable_variables
        gradients = [
            tf.reshape(gradient, weight.shape)
            for gradient, weight in zip(gradients, weights, strict=True)
        ]
        metrics = self._steps.update(MicroBatch(loss[0], accuracy[0], gradients))
        return tf.stack([*metrics.values(), wish[0]])


class DistributedSteps:
    """What CompiledSteps does, by all replicas of a group together.

    Args:
        group: the replicas.
        run: whose training it is; it is asked to stop when another process wants that.
        steps: of the first replica of this process.
        readings_per_step: of the text, as for `create_optimizer`.

    Attributes:
        window_length: tokens per window, one more than are fed.
    """

    def __init__(self, group: Group, run: Run, steps: CompiledSteps, readings_per_step: float):
        self._group, self._run, self._steps = group, run, steps
        self._share = group.share_of(run.settings.batch_size)
        self.window_length = steps.window_length
        self._replicas = [Replica(steps, group.devices[0])]
        for device in group.devices[1:]:
            twin = copy.copy(steps)
            with tf.device(device):
                twin.model = build_model(steps.model.config, steps.model.dtype_policy.name)
                twin.optimizer = create_optimizer(run.settings, twin.model, readings_per_step)
            self._replicas.append(Replica(twin, device))
        self._step = group.compiled(self._one_step)

    @property
    def fingerprint(self) -> str:
        """A hash of what must be the same in all processes: settings and text."""
        parts = self._run.config.model.to_dict(), self._run.config.training.to_dict()
        words = json.dumps([*parts, self._run.corpus.sha256], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()

    def compile(self, windows: int) -> None:
        """The chief's: lets all replicas be as its first one, and compile.

        Args:
            windows: per update.
        """
        settings = {"fingerprint": self.fingerprint, "rate_factor": self._run.progress.rate_factor}
        with self._group.doing_together():
            self._group.order("prepare", **settings)
            self.prepare(windows, self.fingerprint)

    def prepare(self, windows: int, fingerprint: str) -> None:
        """As `compile`, in all processes; `fingerprint` is the chief's."""
        self._group.check_same(self.fingerprint, fingerprint)
        rows = self._steps.gradient_accumulation, self._share, self.window_length
        for replica in self._replicas:
            replica.compile(rows)
        # XLA compiles when a program first runs, which must change nothing.
        variables = self._replicas[0].variables
        kept = [np.array(variable) for variable in variables]
        self._train(np.zeros((1, windows, self.window_length), "int32"))
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
        self._give_all(kept)

    def _give_all(self, arrays: list[np.ndarray]) -> None:
        """Gives all replicas the chief's arrays; seeds of dropout differ in a fixed way."""
        received = unpacked(self._group.from_chief(packed(arrays)), arrays)
        for number, replica in enumerate(self._replicas, self._group.first):
            for variable, value in zip(replica.variables, received, strict=True):
                variable.assign(value)
            for seed in replica.seeds if number else []:
                words = np.array(seed).astype("int64")
                words[0] += number * SEED_DISTANCE
                seed.assign(words.astype("int32"))  # which wraps around

    def train_steps(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """The chief's: runs one update per row of `windows`; returns what CompiledSteps does.

        Args:
            windows: of the whole group, (steps, gradient_accumulation * batch) where they begin,
                or where they are fed the tokens of each.
        """
        numbers = self._replicas[0].schedule.numbers.numpy().tolist()
        step, count = self._run.progress.step, len(windows)
        with self._group.doing_together():
            self._group.order("train", step=step, count=count, schedule=numbers)
            return self.train(windows, numbers)

    def train(self, windows: np.ndarray, schedule: list[float]) -> dict[str, np.ndarray]:
        """As `train_steps`, in all processes, with the numbers of the chief's schedule."""
        for replica in self._replicas:
            replica.schedule.numbers.assign(schedule)
        if windows.ndim == 2:  # (steps, windows) -> (steps, windows, length + 1)
            tokens = self._run.corpus.train
            indices = windows[..., None] + np.arange(self.window_length)
            windows = tokens[np.minimum(indices, len(tokens) - 1)]
        values = self._train(windows)
        if values[:, len(METRICS)].any():
            self._run.requests.stop()
        return {name: values[:, index] for index, name in enumerate(METRICS)}

    def _train(self, windows: np.ndarray) -> np.ndarray:
        """Updates by windows (steps, windows, length + 1); returns METRICS and wishes."""
        group, steps = self._group, len(windows)
        # (steps, windows, length + 1) -> (steps, accumulation, replicas, batch, length + 1)
        shape = steps, self._steps.gradient_accumulation, group.size, self._share
        shares = windows.reshape(*shape, self.window_length).astype("int32")
        # Of a task not every token counts: means of more tokens weigh more.
        counts = (shares[..., 1:] >= 0).sum((3, 4))  # (steps, accumulation, replicas)
        weights = counts * group.size / np.maximum(counts.sum(2, keepdims=True), 1)
        wish = np.array(self._run.requests.latest == "stop", "float32")
        values = [
            self._step(
                group.values(lambda number, step=step: shares[step, :, number]),
                group.values(lambda number, step=step: weights[step, :, number].astype("float32")),
                group.values(lambda _: wish),
            )
            for step in range(steps)
        ]
        return np.stack(values)

    def _one_step(self, index: int, rows: tf.Tensor, weights: tf.Tensor, wish: tf.Tensor) -> Any:
        replica = self._replicas[index]
        total = self._group.sum(replica.gradients(rows, weights, wish))
        return replica.update(total / self._group.size)

    def validate(
        self, tokens: np.ndarray, batch_size: int, most_batches: int | None = None
    ) -> MeanLoss:
        """The chief's: as CompiledSteps', by its first replica alone."""
        return self._steps.validate(tokens, batch_size, most_batches)


def packed(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays in one vector of float32, which can be reduced; all but float32 as their bytes.

    Example:
        >>> packed([np.array([0.5], "float32"), np.array(7, "int32")]).tolist()
        [0.5, 7.0, 0.0, 0.0, 0.0]
    """
    return np.concatenate([_floats(array) for array in arrays])


def _floats(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float32:
        return array.reshape(-1)
    return np.frombuffer(array.tobytes(), "uint8").astype("float32")


def unpacked(vector: np.ndarray, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What `packed` made `vector` of, with the shapes and types of `arrays`.

    Example:
        >>> like = [np.array([0.5], "float32"), np.array(7, "int32")]
        >>> unpacked(packed(like), like)
        [array([0.5], dtype=float32), array(7, dtype=int32)]
    """
    ends = np.cumsum([len(_floats(array)) for array in arrays])
    found = []
    for part, array in zip(np.split(vector, ends[:-1]), arrays, strict=True):
        if array.dtype != np.float32:
            part = np.frombuffer(part.astype("uint8").tobytes(), array.dtype)
        found.append(part.reshape(array.shape))
    return found
