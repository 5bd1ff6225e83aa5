"""The accumulating training step and validation, compiled.

Many steps run inside one compiled call: the text and the order of windows go in, the steps'
metrics come out, and Python is out of the way.
"""

import contextlib
import ctypes
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_lm.model.backend import keras, tf
from keras_lm.model.language_model import LanguageModel
from keras_lm.model.tracing import traced
from keras_lm.training.losses import next_token_loss
from keras_lm.training.windows import cut_windows

STEPS_PER_CALL = 10  # at most; how many are run is an argument, so one compilation serves all
OUT_OF_MEMORY_ERRORS = (MemoryError, tf.errors.ResourceExhaustedError)
METRICS = ("loss", "accuracy", "grad_norm")
# On a CPU, XLA cuts sums over rows, as for biases and norms, into windows: slower than plain sums.
XLA_FLAGS = "--xla_disable_hlo_passes=tree_reduction_rewriter"


def prepare_device(precision: str, deterministic: bool) -> str:
    """Sets TensorFlow and XLA up for a run, before any operation; returns the Keras dtype policy.

    Args:
        precision: "auto" becomes "mixed_float16" where there is a GPU and "float32" elsewhere.
        deterministic: only operations with a fixed order of sums.
    """
    os.environ["XLA_FLAGS"] = f"{XLA_FLAGS} {os.environ.get('XLA_FLAGS', '')}"
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    if precision == "auto":
        return "mixed_float16" if gpus else "float32"
    return precision


def gpu_memory() -> int | None:
    """Bytes of the first GPU's memory in use; None without a GPU."""
    if not tf.config.list_physical_devices("GPU"):
        return None
    return tf.config.experimental.get_memory_info("GPU:0")["current"]


class MeanLoss(NamedTuple):
    """What validation measures: means over all of its tokens.

    Attributes:
        loss: in nats per token.
        accuracy: fraction of the tokens whose target is the likeliest one, 0 to 1.
        exact: of a task, the fraction of the instances whose whole answer is right; None of a text.
    """

    loss: float
    accuracy: float
    exact: float | None = None


class MicroBatch(NamedTuple):
    """A micro-batch's share of an update: what all of them sum to is the update's.

    Attributes:
        loss: scalar.
        accuracy: scalar.
        gradients: of each trainable variable, in its shape; multiplied by the loss scale.
    """

    loss: tf.Tensor
    accuracy: tf.Tensor
    gradients: list[tf.Tensor]


class CompiledSteps:
    """A model's update and validation as compiled programs, with its optimizer and its text.

    Args:
        model: a built LanguageModel.
        optimizer: a built optimizer.
        tokens: the training text, (num_tokens,) integers.
        gradient_accumulation: micro-batches per update.
        clip_norm: longest gradient; 0 for no clipping.
        jit_compile: whether XLA compiles the steps.
        window_length: tokens per window, one more than are fed; None: the context and one more.
    """

    def __init__(
        self,
        model: LanguageModel,
        optimizer: keras.optimizers.Optimizer,
        tokens: np.ndarray,
        gradient_accumulation: int = 1,
        clip_norm: float = 1.0,
        jit_compile: bool = True,
        window_length: int | None = None,
    ):
        self.model = model
        self.optimizer = optimizer
        self.tokens: Any = tf.constant(tokens, tf.int32)
        self.window_length = window_length or model.config.context_length + 1
        self.gradient_accumulation = gradient_accumulation
        self.clip_norm = clip_norm
        self.jit_compile = jit_compile
        self._compiled_steps = traced(self._run_steps, jit_compile)
        self._compiled_validation = traced(self._validate_batch, jit_compile)

    def compile(self, windows: int) -> None:
        """Compiles the step for so many windows per update, and changes nothing."""
        self.train_steps(np.zeros((0, windows), "int32"))
        # Compilation takes more memory than training will; the C library would keep it.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)

    def train_steps(self, offsets: np.ndarray) -> dict[str, np.ndarray]:
        """Runs one update per row of `offsets`.

        Args:
            offsets: (steps, gradient_accumulation * batch) where the windows begin; 0 to
                STEPS_PER_CALL rows.

        Returns:
            For each name in METRICS the updates' values, (steps,).
        """
        steps, windows = offsets.shape
        if steps > STEPS_PER_CALL:
            raise ValueError(
                f"Expected 0 to {STEPS_PER_CALL} updates per call, but got {steps}; make several "
                "calls."
            )
        batch = windows // self.gradient_accumulation
        padded = np.zeros((STEPS_PER_CALL, self.gradient_accumulation, batch), "int32")
        # (steps, gradient_accumulation * batch) -> (steps, gradient_accumulation, batch)
        padded[:steps] = offsets.reshape(steps, self.gradient_accumulation, batch)
        values = self._compiled_steps(tf.constant(padded), tf.constant(steps)).numpy()
        return {name: values[:steps, index] for index, name in enumerate(METRICS)}

    def _run_steps(self, offsets: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        """The first `steps` of (STEPS_PER_CALL, gradient_accumulation, batch) updates.

        Returns their METRICS, (STEPS_PER_CALL, len(METRICS)); 0 for steps that were not made.
        """

        def one_step(step, values):
            # (gradient_accumulation, batch, window_length)
            windows = cut_windows(self.tokens, offsets[step], self.window_length)
            row = tf.stack([*self.train_step(windows).values()])
            return step + 1, tf.tensor_scatter_nd_update(values, [[step]], [row])

        values = tf.zeros((STEPS_PER_CALL, len(METRICS)))
        return tf.while_loop(lambda step, _: step < steps, one_step, (0, values))[1]

    def train_step(self, windows: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update: the gradients of all micro-batches averaged, clipped, applied once.

        Args:
            windows: (gradient_accumulation, batch, length + 1) token ids.

        Returns:
            Scalars for each name in METRICS: means over all tokens, and the gradient's norm before
            clipping.
        """
        return self.update(self.accumulate(lambda index: self.gradients(windows[index])))

    def accumulate(self, micro_batch: Callable[[int | tf.Tensor], MicroBatch]) -> MicroBatch:
        """The sum of an update's micro-batches, each of which `micro_batch` makes of its index."""
        if self.gradient_accumulation == 1:
            return micro_batch(0)

        def add(index, total):
            micro = micro_batch(index)
            gradients = [a + b for a, b in zip(total.gradients, micro.gradients, strict=True)]
            return index + 1, MicroBatch(
                total.loss + micro.loss, total.accuracy + micro.accuracy, gradients
            )

        variables = self.model.trainable_variables
        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
        return tf.while_loop(
            lambda index, _: index < self.gradient_accumulation,
            add,
            (0, MicroBatch(tf.constant(0.0), tf.constant(0.0), zeros)),
        )[1]

    def update(self, total: MicroBatch) -> dict[str, tf.Tensor]:
        """Clips the gradients of a whole update and applies them; returns as `train_step`."""
        loss, accuracy, gradients = total
        # The loss scale is 1 except with float16; clipping scaled gradients at a scaled norm is the
        # same as clipping the gradients, which the optimizer divides by the scale.
        scale = self.optimizer.scale_loss(1.0)
        norm = tf.linalg.global_norm(gradients)
        if self.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm * scale, norm)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return {"loss": loss, "accuracy": accuracy, "grad_norm": norm / scale}

    def gradients(self, windows: tf.Tensor) -> MicroBatch:
        """The share of one micro-batch (batch, length + 1) of the update."""
        inputs, targets = self.inputs_and_targets(windows)  # each (batch, length)
        share = 1.0 / self.gradient_accumulation
        with tf.GradientTape() as tape:
            loss, accuracy = self._loss(inputs, targets, training=True)
            loss *= share
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, [v.value for v in self.model.trainable_variables])
        # A gathered embedding's gradient comes as slices; sums and norms need the whole matrix.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return MicroBatch(loss, share * accuracy, gradients)

    def inputs_and_targets(self, windows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What is fed and what follows, each (batch, length), of windows (batch, length + 1)."""
        return windows[:, :-1], windows[:, 1:]

    def _loss(
        self, inputs: tf.Tensor, targets: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean loss and accuracy over the tokens of (batch, length) whose target is not -1."""
        x = self.model.hidden(inputs, training=training)
        x = tf.reshape(x, (-1, x.shape[-1]))  # (batch, length, d_model) -> (tokens, d_model)
        targets = tf.reshape(targets, [-1])  # (batch, length) -> (tokens,)
        soft_cap = self.model.config.logit_soft_cap
        return next_token_loss(x, self.model.output_kernel(), targets, soft_cap)

    def validate(
        self, tokens: np.ndarray, batch_size: int, most_batches: int | None = None
    ) -> MeanLoss:
        """Mean loss and accuracy over all of `tokens`, each predicted once.

        Args:
            tokens: (num_tokens,) integers, at least 2; or windows, (count, context_length + 1).
            batch_size: windows at once.
            most_batches: of the first ones alone, to see how long they take; None: of all.
        """
        step = self.model.config.context_length + (tokens.ndim - 1)
        tokens = tokens.reshape(-1)  # (count, context_length + 1) -> (num_tokens,)
        starts = np.arange(0, len(tokens) - 1, step)
        missing = -len(starts) % batch_size
        starts = np.concatenate([starts, np.full(missing, len(tokens))]).astype("int32")
        text = tf.constant(tokens, tf.int32)
        totals = np.zeros(3)
        batches = starts.reshape(-1, batch_size)  # (windows,) -> (batches, batch_size)
        for batch in batches[:most_batches]:
            totals += self._compiled_validation(text, tf.constant(batch)).numpy()
        loss, hits, num_tokens = totals
        return MeanLoss(float(loss / num_tokens), float(hits / num_tokens))

    def _validate_batch(self, tokens: tf.Tensor, offsets: tf.Tensor) -> tf.Tensor:
        """Sums of loss, of hits and of tokens, (3,); what is past the text's end does not count.

        Args:
            tokens: (num_tokens,), the text.
            offsets: (batch,), where the windows begin.
        """
        length = self.model.config.context_length
        windows = cut_windows(tokens, offsets, length + 1)  # (batch, length + 1)
        inputs, targets = self.inputs_and_targets(windows)
        # (batch, 1) + (length,) -> (batch, length)
        inside = tf.expand_dims(offsets, 1) + tf.range(length) < tf.shape(tokens)[0] - 1
        count = tf.reduce_sum(tf.cast(inside, tf.float32))
        loss, accuracy = self._loss(inputs, tf.where(inside, targets, -1), training=False)
        return tf.stack([count * loss, count * accuracy, count])
