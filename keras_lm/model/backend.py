"""Keras and TensorFlow as this package needs them, whatever other projects on the machine chose.

Every other module takes them from here. Keras reads its backend and its kind of floats from
KERAS_BACKEND and ~/.keras/keras.json when it is imported; TensorFlow imports it too. So this is
decided here, before both: Keras runs on TensorFlow, with 32-bit floats and its own epsilon unless a
layer is given another. An ImportError says so where Keras runs on another backend already.
"""

import os
import tempfile

_VARIABLE = "KERAS_BACKEND"
_of_others = os.environ.get(_VARIABLE)
_is_homeless = os.path.expanduser("~") == "~"
if _is_homeless:  # TensorFlow would make a folder called `~`
    os.environ["HOME"] = tempfile.gettempdir()
os.environ[_VARIABLE] = "tensorflow"
try:
    import keras
    import tensorflow as tf
    from keras import ops
    from tensorflow.python.util import tf_stack

    _backend = keras.config.backend()
except ImportError as error:  # imported before, for a backend that is not installed
    _backend = str(error)
finally:
    if _is_homeless:
        del os.environ["HOME"]
    del os.environ[_VARIABLE]
    if _of_others is not None:  # the programs that this one starts
        os.environ[_VARIABLE] = _of_others
if _backend != "tensorflow":
    raise ImportError(
        "keras_lm needs Keras on TensorFlow, but Keras was already imported with another backend "
        f"({_backend}): import keras_lm.LanguageModel first, or set {_VARIABLE}=tensorflow."
    )

keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)

__all__ = ["keras", "ops", "tf", "tf_stack"]
