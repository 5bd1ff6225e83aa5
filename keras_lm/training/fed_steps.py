"""The compiled training step on windows that come with each call: of a task, of a large text."""

from collections.abc import Callable

import numpy as np

from keras_lm.data.large.shards import Shards
from keras_lm.model.backend import keras, tf
from keras_lm.model.language_model import LanguageModel
from keras_lm.training.train_step import STEPS_PER_CALL, CompiledSteps
from keras_lm.training.windows import WindowOrder

MOST_SHUFFLED = 2**22  # windows of an epoch whose order is in memory


class FedSteps(CompiledSteps):
    """A model's update on windows that come with each call: the whole text is nowhere.

    Args:
        model, optimizer, gradient_accumulation, clip_norm, jit_compile: as for CompiledSteps.
        batch: windows of one update, (windows, size); their shape is what counts.
    """

    def __init__(
        self,
        model: LanguageModel,
        optimizer: keras.optimizers.Optimizer,
        batch: np.ndarray,
        gradient_accumulation: int = 1,
        clip_norm: float = 1.0,
        jit_compile: bool = True,
    ):
        empty = np.zeros(STEPS_PER_CALL * batch.size, "int32")
        accumulation = (gradient_accumulation, clip_norm, jit_compile, batch.shape[1])
        super().__init__(model, optimizer, empty, *accumulation)
        self.tokens = tf.Variable(self.tokens, trainable=False)

    def train_steps(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        """Runs one update per batch of windows; returns what CompiledSteps does.

        Args:
            windows: (steps, gradient_accumulation * batch, size) tokens; with 0 steps, which only
                compiles, (0, gradient_accumulation * batch) will do.
        """
        if windows.size:
            # (steps, windows, size) -> (STEPS_PER_CALL * windows * size,)
            padded = np.zeros(self.tokens.shape, "int32")
            padded[: windows.size] = windows.reshape(-1)
            self.tokens.assign(padded)
        steps, count = windows.shape[:2]
        starts = self.window_length * np.arange(steps * count, dtype="int32")
        return super().train_steps(starts.reshape(steps, count))


def draw_from(tokens: Shards, context_length: int, seed: int) -> Callable[[int, int], np.ndarray]:
    """What reads an update's windows of a text in shards, a pure function of seed and step.

    Args:
        tokens: what is trained on.
        context_length: of the model, in tokens.
        seed: of the order.

    Returns:
        A function of a step and a count, which gives (count, context_length + 1) int32.
    """
    order = WindowOrder(len(tokens), context_length, seed, MOST_SHUFFLED)
    return lambda step, count: tokens.windows(order.offsets(step, count), context_length + 1)
