"""A `.keras` file with weights of 8 bits, about a quarter as large, which keras_lm reads."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np

from keras_lm.export.cost import Logits, cost_in_words
from keras_lm.export.exported import Exported
from keras_lm.model.backend import tf
from keras_lm.model.language_model import build_model
from keras_lm.storage.int8 import CLASS, SCALES, dequantize, quantize, scale_axis


def write(model: Exported, folder: Path) -> str:
    """Writes `model.keras`; returns what the 8 bits cost."""
    arrays, plain = {}, []
    for path, array in zip(model.config.weight_shapes(), model.arrays, strict=True):
        if (axis := scale_axis(path, array.shape)) is None:
            arrays[path] = array
            plain.append(array)
        else:
            arrays[path], arrays[path + SCALES] = quantize(array, axis)
            plain.append(dequantize(arrays[path], arrays[path + SCALES], axis))
    _write_archive(folder / "model.keras", model, arrays)
    return cost_in_words(model, logits_of(model, model.arrays), logits_of(model, plain))


def _write_archive(path: Path, model: Exported, arrays: dict[str, np.ndarray]) -> None:
    """An archive of the members that a `.keras` file has."""
    values = {"config": model.config.to_dict(), "tokenizer": model.tokenizer.to_dict()}
    config = {"class_name": CLASS, "registered_name": f"keras_lm>{CLASS}", "config": values}
    weights = io.BytesIO()
    with h5py.File(weights, "w") as store:
        for name, array in arrays.items():
            store.create_dataset(name, data=array)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": None}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.getvalue())


def logits_of(model: Exported, arrays: list[np.ndarray]) -> Logits:
    """The model's function with these weights."""
    built = build_model(model.config, "float32")
    built.set_weights(arrays)
    step = tf.function(built, reduce_retracing=True)
    return lambda ids: step(tf.constant(ids)).numpy()
