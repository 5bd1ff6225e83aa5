"""The compiled training step and validation of a task: only answers count, instances are endless.

An instance comes as rows that also say which of them are answers (`task_corpus.signed`).
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from keras_lm.model.backend import tf
from keras_lm.model.tracing import traced
from keras_lm.training.fed_steps import FedSteps
from keras_lm.training.train_step import MeanLoss


class TaskSteps(FedSteps):
    """A model's update and validation on instances of a task, given as signed rows.

    Args:
        model, optimizer, batch, gradient_accumulation, clip_norm, jit_compile: as for FedSteps.
    """

    @cached_property
    def _compiled_test(self) -> Callable[[tf.Tensor], tf.Tensor]:
        return traced(self._test, self.jit_compile)

    def inputs_and_targets(self, windows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What is fed and which answers follow, -1 where none does; each (batch, length)."""
        rows = tf.where(windows < 0, -1 - windows, windows)
        return rows[:, :-1], tf.maximum(windows[:, 1:], -1)

    def validate(
        self, tokens: np.ndarray, batch_size: int, most_batches: int | None = None
    ) -> MeanLoss:
        """Mean loss and accuracy over all answers' tokens, and the part of right answers.

        Args:
            tokens: (count, size) signed rows of instances.
            batch_size: instances at once.
            most_batches: of the first ones alone, to see how long they take; None: of all.
        """
        tokens = tokens[: most_batches and most_batches * batch_size]
        count, size = tokens.shape
        padded = np.full((-(-count // batch_size) * batch_size, size), -1, "int32")
        padded[:count] = tokens
        totals = np.zeros(4)
        for batch in padded.reshape(-1, batch_size, size):
            totals += self._compiled_test(tf.constant(batch)).numpy()
        loss, hits, num_tokens, exact = totals
        # An instance that was only added has no answer, so none that is wrong.
        exact -= len(padded) - count
        return MeanLoss(float(loss / num_tokens), float(hits / num_tokens), float(exact / count))

    def _test(self, windows: tf.Tensor) -> tf.Tensor:
        """Sums of loss, hits, tokens and right answers, (4,), of (batch, length + 1) rows."""
        inputs, targets = self.inputs_and_targets(windows)
        logits = self.model(inputs, training=False)  # (batch, length, vocab_size)
        is_answer = targets >= 0
        wanted = tf.maximum(targets, 0)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
        is_right = tf.argmax(logits, -1, tf.int32) == wanted
        sums = [
            tf.where(is_answer, losses, 0.0),
            is_answer & is_right,
            is_answer,
            tf.reduce_all(is_right | ~is_answer, axis=1),
        ]
        return tf.stack([tf.reduce_sum(tf.cast(values, tf.float32)) for values in sums])
