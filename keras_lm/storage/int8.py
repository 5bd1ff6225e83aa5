"""Weights in 8 bits: which arrays of a model these are, how they become so, and back.

A matrix has a scale per token (tables of vectors) or per output (all others): a whole number from
-127 to 127 times its scale is the weight, to half a scale. Vectors, such as those of norms and
biases, and the gates of slots stay in float32.
"""

from collections.abc import Mapping

import numpy as np

CLASS = "Int8LanguageModel"  # in config.json, so that Keras does not take the numbers for weights
SCALES = "_scales"  # ends the path of the scales beside their array
FLOAT, WHOLE = "<f4", "|i1"
MOST = 127
Stored = dict[str, tuple[tuple[int, ...], str]]  # by path, an array's shape and type


def scale_axis(path: str, shape: tuple[int, ...]) -> int | None:
    """The axis along which an array has its scales; None: it stays in float32.

    Example:
        >>> scale_axis("embedding/vars/0", (65, 32)), scale_axis("layers/dense/vars/0", (32, 65))
        (0, 1)
        >>> scale_axis("final_norm/vars/0", (32,)) is None
        True
    """
    if len(shape) != 2 or "/slots/" in path:
        return None
    return 0 if "embedding" in path else 1


def stored_arrays(shapes: Mapping[str, tuple[int, ...]]) -> Stored:
    """What a file with 8-bit weights holds of a model with arrays of these shapes."""
    stored: Stored = {}
    for path, shape in shapes.items():
        axis = scale_axis(path, shape)
        stored[path] = shape, FLOAT if axis is None else WHOLE
        if axis is not None:
            stored[path + SCALES] = (shape[axis],), FLOAT
    return stored


def quantize(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix in 8 bits, and its scales along `axis`.

    Example:
        >>> quantize(np.array([[-1.27, 0.5], [0.0, 0.0]], "float32"), axis=0)[0].tolist()
        [[-127, 50], [0, 0]]
    """
    scales = np.abs(array).max(axis=1 - axis).astype(FLOAT) / MOST
    steps = np.where(scales > 0, scales, 1).astype(FLOAT)
    whole = np.rint(array / np.expand_dims(steps, 1 - axis))
    return np.clip(whole, -MOST, MOST).astype(WHOLE), scales


def dequantize(whole: np.ndarray, scales: np.ndarray, axis: int) -> np.ndarray:
    """The matrix in float32 that `quantize` turned into these.

    Example:
        >>> dequantize(np.array([[-127, 50]], "int8"), np.array([0.5], "float32"), 0).tolist()
        [[-63.5, 25.0]]
    """
    return whole.astype(FLOAT) * np.expand_dims(scales, 1 - axis)
