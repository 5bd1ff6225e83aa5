"""An optimizer, whose code needs TensorFlow."""

from keras_lm.model.backend import keras
from keras_lm.training.optimizers import GrowingDecay


class SGD(GrowingDecay, keras.optimizers.SGD):
    """Keras' SGD with the setting `decay_per_reading`."""


def sgd(config, schedule):
    """Gradient descent with the config's momentum and weight decay."""
    return SGD(learning_rate=schedule, momentum=config.momentum, weight_decay=config.weight_decay)
