"""An optimizer, whose code needs TensorFlow."""

from keras_lm.model.backend import keras


def sgd(config, schedule):
    """Gradient descent with the config's momentum and weight decay."""
    return keras.optimizers.SGD(
        learning_rate=schedule, momentum=config.momentum, weight_decay=config.weight_decay
    )
