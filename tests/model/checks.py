"""What must hold of every layer."""

import keras
import numpy as np
import tensorflow as tf

from tests.reference import randomize

# How far the results of 16 bits may be from those of 32, as a part of the largest.
PRECISIONS = {"mixed_float16": 2e-2, "mixed_bfloat16": 1.5e-1}


def check_layer(make, x, path, output_dtype=None, position_axis=1, used_elsewhere=()):
    """Holds a layer against what every layer promises.

    Args:
        make: a function of keyword arguments such as `dtype` to a new layer, not built.
        x: an input, (batch, length, ...); floats, or token ids.
        path: of a file for weights.
        output_dtype: of the result in every precision; None: the precision's own.
        position_axis: of the result; no row of it may depend on later positions of x.
        used_elsewhere: names of weights that the call itself does not use.
    """
    layer = make()
    y = call(layer, x)
    assert layer.built and layer.weights
    assert y.shape == tuple(layer.compute_output_shape(x.shape))
    randomize(layer)
    y = call(layer, x)
    check_config(layer, x, y)
    check_symbolic_call_and_saved_weights(make, layer, x, y, path)
    check_precisions(make, layer, x, y, output_dtype)
    check_gradients(layer, x, used_elsewhere)
    check_causality(layer, x, y, position_axis)


def call(layer, x) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer(x))


def check_config(layer, x, y):
    """Its config makes a layer with the same config, which computes the same with its weights."""
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again is not layer
    assert again.get_config() == layer.get_config()
    if not again.built:
        again.build(x.shape)
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in layer.weights]
    assert np.abs(call(again, x) - y).max() > 1e-3
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(call(again, x), y)


def check_symbolic_call_and_saved_weights(make, layer, x, y, path):
    """In a functional model it takes any batch and length, and its weights pass through a file."""
    models = []
    for part in (layer, make(name="fresh")):
        inputs = keras.Input((None, *x.shape[2:]), dtype=str(x.dtype))
        models.append(keras.Model(inputs, part(inputs)))
    saved, loaded = models
    assert saved.output_shape[0] is None and len(saved.output_shape) == y.ndim
    assert saved.output_shape[-1] == y.shape[-1]
    np.testing.assert_allclose(call(saved, x), y, rtol=0, atol=1e-5)
    assert np.abs(call(loaded, x) - y).max() > 1e-3
    saved.save_weights(path)
    loaded.load_weights(path)
    np.testing.assert_array_equal(call(loaded, x), call(saved, x))


def check_precisions(make, layer, x, y, output_dtype):
    """With 16 bits the result is close, and the weights stay in float32."""
    for policy, tolerance in PRECISIONS.items():
        low = make(dtype=policy)
        low.build(x.shape)
        low.set_weights(layer.get_weights())
        result = low(x)
        assert result.dtype == (output_dtype or policy.removeprefix("mixed_"))
        assert {weight.dtype for weight in low.weights} == {"float32"}
        distance = np.abs(keras.ops.convert_to_numpy(keras.ops.cast(result, "float32")) - y)
        assert 0 < distance.max() <= tolerance * np.abs(y).max()


def check_gradients(layer, x, used_elsewhere):
    """Every weight is trained, and its gradient is finite and not zero."""
    weights = [weight for weight in layer.weights if weight.name not in used_elsewhere]
    assert len(layer.weights) - len(weights) == len(used_elsewhere)
    assert all(weight.trainable for weight in layer.weights)
    with tf.GradientTape() as tape:
        y = layer(x)
        factors = np.random.default_rng(4).normal(size=y.shape).astype("float32")
        loss = tf.reduce_sum(y * factors)
    gradients = tape.gradient(loss, [weight.value for weight in weights])
    for weight, gradient in zip(weights, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient)
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, weight.path


def check_causality(layer, x, y, position_axis):
    """Another future changes every later row of the result, and no bit of an earlier one."""
    y = np.moveaxis(y, position_axis, 1)
    for t in (1, x.shape[1] // 2, x.shape[1] - 1):
        other = x.copy()
        other[:, t:] = x[:, t:] + 1 if x.dtype.kind == "i" else 2 - 3 * x[:, t:]
        changed = np.moveaxis(call(layer, other), position_axis, 1)
        np.testing.assert_array_equal(changed[:, :t], y[:, :t])
        for row in range(t, x.shape[1]):
            assert np.abs(changed[:, row] - y[:, row]).max() > 1e-4
