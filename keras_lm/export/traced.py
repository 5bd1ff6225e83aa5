"""The model as TensorFlow graphs, for formats that Keras makes of them."""

from pathlib import Path

from keras_lm.export.exported import Exported
from keras_lm.model.backend import keras
from keras_lm.model.language_model import build_model


def write_traced(model: Exported, path: Path, format: str, without_loops: bool, **options) -> None:
    """Lets Keras write the model, of any batch and any length up to the context.

    Args:
        model: what to write.
        path: the file or folder.
        format: Keras' name of the format.
        without_loops: attention takes the form that has no loops.
        **options: of Keras' export.
    """
    traced = build_model(model.config, "float32")
    traced.set_weights(model.arrays)
    for attention in (block.attention for block in traced.blocks):
        if hasattr(attention, "chunk_length"):  # two chunks are exact; longer ones are only padded
            half = (model.config.context_length + 1) // 2
            attention.chunk_length = min(attention.chunk_length, half)
        if without_loops:
            attention.attend = attention.attend_without_loops
    ids = keras.InputSpec(shape=(None, None), dtype="int32", name="ids")
    traced.export(path, format=format, input_signature=[ids], verbose=False, **options)
