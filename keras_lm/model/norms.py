"""The norms: what each entry of `keras_lm.settings.variants.NORMS` names as its code."""

from keras_lm.model.backend import keras, ops
from keras_lm.model.products import scale_features

NORM_EPSILON = 1e-5


def layer_norm(use_bias: bool = False, **kwargs) -> keras.layers.Layer:
    """LayerNorm (https://arxiv.org/abs/1607.06450).

    Args:
        use_bias: whether it has an offset.
        **kwargs: of the Keras layer, such as `dtype` and `name`.

    Returns:
        A layer of (..., d_model) to the same shape.

    Example:
        >>> layer_norm()(ops.array([[1.0, 3.0]])).numpy().round(3).tolist()
        [[-1.0, 1.0]]
    """
    return LayerNormalization(epsilon=NORM_EPSILON, center=use_bias, **kwargs)


def rms_norm(use_bias: bool = False, **kwargs) -> keras.layers.Layer:
    """RMSNorm (https://arxiv.org/abs/1910.07467); arguments as `layer_norm`'s, never an offset.

    Example:
        >>> rms_norm()(ops.array([[3.0, 3.0]])).numpy().round(3).tolist()
        [[1.0, 1.0]]
    """
    return RMSNormalization(epsilon=NORM_EPSILON, **kwargs)


@keras.saving.register_keras_serializable(package="keras_lm")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' layer over the last axis, in float32, with `scale_features`' gradient of its scale.

    Call arguments and result: (..., d_model).
    """

    def call(self, inputs):
        x = ops.layer_normalization(ops.cast(inputs, "float32"), epsilon=self.epsilon)
        x = scale_features(x, self.gamma)
        return ops.cast(x if self.beta is None else x + self.beta, self.compute_dtype)


@keras.saving.register_keras_serializable(package="keras_lm")
class RMSNormalization(keras.layers.RMSNormalization):
    """Keras' layer over the last axis, in float32, with `scale_features`' gradient of its scale.

    Call arguments and result: (..., d_model).
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        x = ops.rms_normalization(ops.cast(inputs, "float32"), epsilon=self.epsilon)
        return ops.cast(scale_features(x, ops.cast(self.scale, "float32")), self.compute_dtype)
