"""How weights change: optimizers and the learning rate's schedule."""

import numpy as np

from keras_lm.model.backend import keras, ops, tf
from keras_lm.model.tracing import traced
from keras_lm.settings.config import TrainingConfig
from keras_lm.settings.variants import OPTIMIZERS
from keras_lm.training.plan import Stage

TRAPEZOID_DECAY = 0.5  # part of the run over which the trapezoid falls
MOST_GROWN_DECAY = 4.0  # what weight decay grows to: a text of 2 kB is read a thousand times


@keras.saving.register_keras_serializable(package="keras_lm")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then decay to `floor` at the last step.

    The numbers are a variable, not constants of the compiled step: one program serves runs of any
    length and learning rate, and the length may change on the way (`follow`).

    Args:
        peak: the highest learning rate.
        floor: the learning rate of the last update.
        warmup_steps: updates until the peak.
        steps: updates in all.
        shape: "cosine", "linear", "trapezoid" (flat, then linear over the last half; Hägele et
            al., https://arxiv.org/abs/2405.18392) or "constant".

    Attributes:
        numbers: the variable, (8,).

    Example:
        >>> schedule = WarmupDecay(1.0, 0.0, warmup_steps=2, steps=6, shape="linear")
        >>> [float(schedule(step)) for step in range(6)]
        [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    def __init__(self, peak: float, floor: float, warmup_steps: int, steps: int, shape: str):
        self.peak, self.floor, self.shape = peak, floor, shape
        self.warmup_steps, self.steps = warmup_steps, steps
        numbers = self._numbers_of(Stage(0, steps, warmup=warmup_steps))
        self.numbers = tf.Variable(numbers, trainable=False, dtype=tf.float32)

    def follow(self, stage: Stage) -> None:
        """Takes another length, or begins again; peak, floor and shape stay."""
        self.numbers.assign(self._numbers_of(stage))

    def _numbers_of(self, stage: Stage) -> list[float]:
        begin, warmup, rate = stage.begin, stage.warmup, stage.rate
        decay = [stage.decay_begin, stage.progress, stage.steps]
        return [self.peak, self.floor, begin, warmup, rate, *decay]

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The learning rate, a scalar, of the update after `step` others."""
        peak, floor, begin, warmup_steps, rate, decay_begin, done, steps = tf.unstack(self.numbers)
        update = ops.cast(step, "float32") + 1.0  # `step` counts the updates made before
        warmup = ops.clip((update - begin) / ops.maximum(warmup_steps, 1.0), 0.0, 1.0)
        progress = (update - decay_begin) / ops.maximum(steps - decay_begin, 1.0)
        progress = done + (1.0 - done) * ops.clip(progress, 0.0, 1.0)
        left = {  # of the way from the floor to the peak, 1 to 0
            "constant": lambda: ops.ones_like(progress),
            "linear": lambda: 1.0 - progress,
            "cosine": lambda: 0.5 + 0.5 * ops.cos(np.pi * progress),
            "trapezoid": lambda: ops.minimum((1.0 - progress) / TRAPEZOID_DECAY, 1.0),
        }[self.shape]()
        return rate * (1.0 - warmup) + warmup * (floor + (peak - floor) * left)

    def get_config(self) -> dict[str, float | int | str]:
        """The arguments that make the same schedule."""
        return {
            "peak": self.peak,
            "floor": self.floor,
            "warmup_steps": self.warmup_steps,
            "steps": self.steps,
            "shape": self.shape,
        }


class GrowingDecay(keras.optimizers.Optimizer):
    """Put before a Keras optimizer: its weight decay grows from update to update.

    Attributes:
        decay_growth: how much the weight decay grows per update, up to MOST_GROWN_DECAY.
    """

    decay_growth = 0.0

    def apply(
        self, grads: list[tf.Tensor], trainable_variables: list[keras.Variable] | None = None
    ) -> None:
        """As Keras' `apply`."""
        given = self.weight_decay
        if self.decay_growth:
            start = given or 0.0
            grown = start + self.decay_growth * ops.cast(self.iterations, "float32")
            self._use_decay(ops.minimum(grown, max(start, MOST_GROWN_DECAY)))
        try:
            super().apply(grads, trainable_variables)
        finally:
            if self.decay_growth:
                self._use_decay(given)

    def _use_decay(self, weight_decay: tf.Tensor | float | None) -> None:
        self.weight_decay = self.adam_weight_decay = weight_decay


class OncePerUpdate(GrowingDecay):
    """Put before a Keras optimizer: what all variables share is computed once per update.

    Keras computes the learning rate and Adam's correction once per variable, a fourth of the
    training step's operations, which all take time to trace and memory to compile.
    """

    @property
    def adam_betas(self) -> tuple[float, float]:
        """How much of Adam's two means is kept per step."""
        raise NotImplementedError

    def apply(
        self, grads: list[tf.Tensor], trainable_variables: list[keras.Variable] | None = None
    ) -> None:
        """As Keras' `apply`."""
        schedule, self._learning_rate = self._learning_rate, self.learning_rate
        beta_1, beta_2 = self.adam_betas
        update = ops.cast(self.iterations + 1, "float32")
        # Adam's means begin at zero, and are too small by this much at first.
        self.correction = ops.sqrt(1 - beta_2**update) / (1 - beta_1**update)
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._learning_rate = schedule

    def adam_update(
        self,
        gradient: tf.Tensor,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
        m: keras.Variable,
        v: keras.Variable,
    ) -> None:
        """Adam's step (https://arxiv.org/abs/1412.6980), within `apply`.

        Args:
            gradient, variable: of any one shape.
            learning_rate: scalar.
            m, v: the running means of gradients and of their squares, of that shape too.
        """
        beta_1, beta_2 = self.adam_betas
        self.assign_add(m, (1 - beta_1) * (gradient - m))
        self.assign_add(v, (1 - beta_2) * (ops.square(gradient) - v))
        rate = learning_rate * self.correction
        self.assign_sub(variable, rate * m / (ops.sqrt(v) + self.epsilon))


@keras.saving.register_keras_serializable(package="keras_lm")
class AdamW(OncePerUpdate, keras.optimizers.AdamW):
    """Keras' AdamW (https://arxiv.org/abs/1711.05101) with a smaller graph."""

    @property
    def adam_betas(self) -> tuple[float, float]:
        """How much of the two means is kept per step."""
        return self.beta_1, self.beta_2

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """As Keras' `update_step`."""
        index = self._get_variable_index(variable)
        means = self._momentums[index], self._velocities[index]
        self.adam_update(gradient, variable, learning_rate, *means)


@keras.saving.register_keras_serializable(package="keras_lm")
class GramMuon(OncePerUpdate, keras.optimizers.Muon):
    """Keras' Muon (https://kellerjordan.github.io/posts/muon) with its iteration on Gram matrices.

    An iteration X <- P X with P = a I + b G + c G^2 multiplies X by a polynomial of its Gram matrix
    G = X X^T. These commute, so their product can be built from G alone, which becomes P G P for
    the next one, and X is multiplied once, in the end. The result is the same up to rounding; where
    X is three or four times as wide as high, it takes a bit over half of the work.
    """

    @property
    def adam_betas(self) -> tuple[float, float]:
        """How much of the two means is kept per step, where weights are trained by Adam."""
        return self.adam_beta_1, self.adam_beta_2

    def _adamw_update_step(
        self,
        gradient: tf.Tensor,
        variable: keras.Variable,
        learning_rate: tf.Tensor,
        m: keras.Variable,
        v: keras.Variable,
    ) -> None:
        self.adam_update(gradient, variable, learning_rate, m, v)

    @traced  # once per shape, not once per matrix: a quicker start
    def zeropower_via_newtonschulz5(self, x: tf.Tensor, steps: int) -> tf.Tensor:
        """About the orthogonal matrix nearest to `x`, (rows, columns), after `steps` iterations."""
        rows, columns = x.shape
        if rows > columns:  # (columns, rows) and back
            return ops.transpose(self.zeropower_via_newtonschulz5(ops.transpose(x), steps))
        if columns < 2 * rows:  # nearly square: the usual form takes less
            return super().zeropower_via_newtonschulz5(x, steps)
        x = x / (ops.norm(x) + 1e-7)
        gram = ops.matmul(x, ops.transpose(x))  # (rows, rows)
        product = identity = ops.eye(rows, dtype=x.dtype)
        for step in range(steps):
            squared = ops.matmul(gram, gram)
            factor = self.muon_a * identity + self.muon_b * gram + self.muon_c * squared
            product = ops.matmul(factor, product) if step else factor
            if step + 1 < steps:
                gram = ops.matmul(ops.matmul(factor, gram), factor)
        return ops.matmul(product, x)


def adamw(config: TrainingConfig, schedule: WarmupDecay) -> keras.optimizers.Optimizer:
    """AdamW (https://arxiv.org/abs/1711.05101) with the config's betas, epsilon and decay."""
    return AdamW(
        learning_rate=schedule,
        weight_decay=config.weight_decay,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        epsilon=config.epsilon,
    )


def muon(config: TrainingConfig, schedule: WarmupDecay) -> keras.optimizers.Optimizer:
    """Muon (https://kellerjordan.github.io/posts/muon) for the matrices inside blocks.

    Embeddings, output layer and vectors are trained by AdamW.
    """
    return GramMuon(
        learning_rate=schedule,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        adam_weight_decay=config.weight_decay,
        adam_beta_1=config.beta_1,
        adam_beta_2=config.beta_2,
        epsilon=config.epsilon,
        exclude_layers=["output_layer"],
    )


def schedule_of(optimizer: keras.optimizers.Optimizer) -> WarmupDecay:
    """The schedule of an optimizer that `create_optimizer` made."""
    return getattr(optimizer, "inner_optimizer", optimizer)._learning_rate


def create_optimizer(
    config: TrainingConfig, model: keras.Model, readings_per_update: float = 0.0
) -> keras.optimizers.Optimizer:
    """The optimizer that `config` names, built for `model`.

    The learning rate follows the config's schedule, weight decay acts on matrices only, and a
    float16 model gets loss scaling.

    Args:
        config: its optimizer, schedule and their settings.
        model: a built model.
        readings_per_update: part of the training text that one update reads; 0: it has no end.
    """
    schedule = WarmupDecay(
        peak=config.learning_rate,
        floor=config.min_learning_rate,
        warmup_steps=config.warmup_steps,
        steps=config.steps,
        shape=config.schedule,
    )
    optimizer = OPTIMIZERS[config.optimizer].load()(config, schedule)
    vectors = [weight for weight in model.trainable_variables if len(weight.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=vectors)
    optimizer.decay_growth = config.decay_per_reading * readings_per_update
    if model.compute_dtype == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer
