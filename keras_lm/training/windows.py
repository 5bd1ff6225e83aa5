"""Windows of tokens: which ones a step trains on, and how they are cut out of the text."""

import functools

import numpy as np

from keras_lm.model.backend import tf


class WindowOrder:
    """The order of training windows, a pure function of (seed, step): resuming needs no state.

    An epoch cuts the text into neighbouring windows, beginning at a random phase, and shuffles
    them; so no token is predicted twice in an epoch, and the ends that a phase leaves out (fewer
    than two windows) get their turn in others.

    Args:
        num_tokens: length of the text, at least context_length + 1.
        context_length: tokens per window that are fed to the model.
        seed: of the order.

    Example:
        >>> order = WindowOrder(num_tokens=20, context_length=4, seed=1)
        >>> bool((order.offsets(0, 2) == order.offsets(0, 2)).all())
        True
    """

    def __init__(self, num_tokens: int, context_length: int, seed: int):
        self.num_tokens = num_tokens
        self.context_length = context_length
        self.seed = seed
        self.windows_per_epoch = max(1, num_tokens // context_length - 1)
        self._epoch = functools.lru_cache(maxsize=2)(self._shuffle_epoch)

    def offsets(self, step: int, count: int) -> np.ndarray:
        """Where the `count` windows of update `step` (from 0) begin: (count,) int32."""
        windows = np.arange(step * count, (step + 1) * count)
        epochs, indices = np.divmod(windows, self.windows_per_epoch)
        chosen = [
            self._epoch(int(epoch))[index] for epoch, index in zip(epochs, indices, strict=True)
        ]
        return np.array(chosen, "int32")

    def _shuffle_epoch(self, epoch: int) -> np.ndarray:
        """Where the windows of an epoch begin, in its order: (windows_per_epoch,)."""
        generator = np.random.default_rng([self.seed, epoch])
        last_phase = self.num_tokens - 1 - self.windows_per_epoch * self.context_length
        phase = generator.integers(0, last_phase + 1)
        return phase + self.context_length * generator.permutation(self.windows_per_epoch)


def cut_windows(tokens: tf.Tensor, offsets: tf.Tensor, length: int) -> tf.Tensor:
    """The windows that begin at `offsets` (...,): (..., length); the text's end is repeated.

    Example:
        >>> cut_windows(tf.constant([5, 6, 7]), tf.constant([0, 1]), 3).numpy().tolist()
        [[5, 6, 7], [6, 7, 7]]
    """
    indices = tf.expand_dims(offsets, -1) + tf.range(length)  # (..., 1) + (length,)
    return tf.gather(tokens, tf.minimum(indices, tf.shape(tokens)[0] - 1))
