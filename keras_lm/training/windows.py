"""Windows of tokens: which ones a step trains on, and how they are cut out of the text."""

import functools
from typing import NamedTuple

import numpy as np

from keras_lm.model.backend import tf

ROUNDS, MULTIPLIER = 6, 0x9E3779B97F4A7C15  # of a permutation that is computed


class WindowOrder:
    """The order of training windows, a pure function of (seed, step): resuming needs no state.

    An epoch cuts the text into neighbouring windows, beginning at a random phase, and shuffles
    them; so no token is predicted twice in an epoch, and the ends that a phase leaves out (fewer
    than two windows) get their turn in others.

    Args:
        num_tokens: length of the text, at least context_length + 1.
        context_length: tokens per window that are fed to the model.
        seed: of the order.
        most_shuffled: of an epoch with more windows the order is computed window by window, which
            takes no memory; None: it never is.

    Example:
        >>> order = WindowOrder(num_tokens=20, context_length=4, seed=1)
        >>> bool((order.offsets(0, 2) == order.offsets(0, 2)).all())
        True
    """

    def __init__(
        self, num_tokens: int, context_length: int, seed: int, most_shuffled: int | None = None
    ):
        self.num_tokens = num_tokens
        self.context_length = context_length
        self.seed = seed
        self.windows_per_epoch = max(1, num_tokens // context_length - 1)
        self.is_computed = most_shuffled is not None and self.windows_per_epoch > most_shuffled
        self._epoch = functools.lru_cache(maxsize=2)(self._shuffle_epoch)

    def offsets(self, step: int, count: int) -> np.ndarray:
        """Where the `count` windows of update `step` (from 0) begin.

        Returns:
            (count,) int32, or int64 where the text is too long for that.
        """
        windows = np.arange(step * count, (step + 1) * count)
        epochs, indices = np.divmod(windows, self.windows_per_epoch)
        shuffled = [self._epoch(epoch) for epoch in epochs.tolist()]
        chosen = [
            epoch.phase + self.context_length * int(epoch.order[index])
            for epoch, index in zip(shuffled, indices.tolist(), strict=True)
        ]
        return np.array(chosen, "int32" if self.num_tokens < 2**31 else "int64")

    def _shuffle_epoch(self, epoch: int) -> "Epoch":
        generator = np.random.default_rng([self.seed, epoch])
        last_phase = self.num_tokens - 1 - self.windows_per_epoch * self.context_length
        phase = int(generator.integers(0, last_phase + 1))
        if self.is_computed:
            return Epoch(phase, Permutation(self.windows_per_epoch, generator))
        return Epoch(phase, generator.permutation(self.windows_per_epoch))


class Permutation:
    """The numbers below `size` in a random order, each computed when it is asked for.

    A Feistel network permutes the numbers of an even count of bits; one that is too large is
    permuted again until it is not. (https://arxiv.org/abs/cs/0202016 calls that cycle walking.)

    Args:
        size: how many numbers, at least 1.
        generator: gives the keys.

    Example:
        >>> order = Permutation(5, np.random.default_rng(0))
        >>> sorted(order[index] for index in range(5))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, size: int, generator: np.random.Generator):
        self._size = size
        self._half = max(1, -(-(size - 1).bit_length() // 2))  # bits
        self._keys = generator.integers(0, 2**63, ROUNDS).tolist()

    def __getitem__(self, index: int) -> int:
        number = self._permuted(index)
        while number >= self._size:
            number = self._permuted(number)
        return number

    def _permuted(self, number: int) -> int:
        """The number of 2 * `_half` bits that another one becomes."""
        mask = (1 << self._half) - 1
        left, right = number >> self._half, number & mask
        for key in self._keys:
            # The upper bits of a product depend on all bits of both factors.
            mixed = ((right ^ key) * MULTIPLIER) % 2**64
            mixed = ((mixed ^ mixed >> 32) * MULTIPLIER) % 2**64
            left, right = right, left ^ (mixed >> 64 - self._half)
        return left << self._half | right


class Epoch(NamedTuple):
    """One reading of the text.

    Attributes:
        phase: where its first window begins.
        order: of its windows, (windows_per_epoch,).
    """

    phase: int
    order: np.ndarray | Permutation


def cut_windows(tokens: tf.Tensor, offsets: tf.Tensor, length: int) -> tf.Tensor:
    """The windows that begin at `offsets` (...,): (..., length); the text's end is repeated.

    Example:
        >>> cut_windows(tf.constant([5, 6, 7]), tf.constant([0, 1]), 3).numpy().tolist()
        [[5, 6, 7], [6, 7, 7]]
    """
    indices = tf.expand_dims(offsets, -1) + tf.range(length)  # (..., 1) + (length,)
    return tf.gather(tokens, tf.minimum(indices, tf.shape(tokens)[0] - 1))
