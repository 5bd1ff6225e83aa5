"""Random inputs and weights, plain references, and comparisons with them."""

import keras
import numpy as np
import tensorflow as tf


def draw(*shape, seed=5):
    """Normal numbers, always the same for a shape and a seed."""
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomize(layer, stddev=0.3, seed=7):
    """Gives every weight of a layer a value, so that no gain is 1, no bias 0, no softmax flat."""
    generator = np.random.default_rng(seed)
    for weight in layer.weights:
        weight.assign(generator.normal(0.0, stddev, weight.shape))
    return layer


def decode(layer, x, context_length, xla=False):
    """What an attention gives for x (batch, length, d_model) token by token, from its state."""
    step = tf.function(layer.decode, jit_compile=xla) if xla else layer.decode
    state, rows = layer.initial_state(len(x), context_length), []
    for t in range(x.shape[1]):
        row, state = step(tf.constant(x[:, t : t + 1]), state, tf.constant(t))
        rows.append(row)
    return np.concatenate(rows, axis=1)


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
