"""Plain references, and comparisons with them."""

import keras
import numpy as np
import tensorflow as tf


def values(variables):
    return [keras.ops.convert_to_numpy(variable).copy() for variable in variables]


def assert_close(actual, expected, atol):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def assert_same_bits(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def plain_gradients(model, windows):
    """Gradients of the mean loss over (batch, length + 1) windows at once."""
    windows = windows.reshape(-1, windows.shape[-1])
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(
            windows[:, 1:], model(windows[:, :-1]), from_logits=True
        )
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_variables])
    return [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def plain_losses(model, inputs, targets):
    """Loss in float64, and whether the likeliest token is right, of each token."""
    logits = np.array(model(inputs), "float64")
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = -np.take_along_axis(log_probabilities, targets[..., None], -1)[..., 0]
    return losses, logits.argmax(-1) == targets
