"""The `.keras` file for people: a model with its tokenizer, saved whole or not at all."""

import tempfile
from pathlib import Path

from numpy.typing import NDArray

from keras_lm.model.language_model import LanguageModel
from keras_lm.model.low_rank import plain_weights
from keras_lm.storage.files import PARTIAL, write_atomically


def save_model(
    path: Path, model: LanguageModel, tokenizer: dict, weights: list[NDArray] | None = None
) -> None:
    """Writes `model` with its tokenizer as a `.keras` file in float32, whole or not at all.

    Args:
        path: where; an old file there is replaced.
        model: any precision; adapters become part of its matrices.
        tokenizer: its `to_dict()`.
        weights: that the file gets in place of the model's own, from its `plain_weights`.
    """
    export = LanguageModel(model.config, tokenizer, dtype="float32", name="language_model")
    export.build((None, model.config.context_length))
    export.set_weights(plain_weights(model) if weights is None else weights)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=path.parent) as folder:
        temporary = Path(folder, "model.keras")
        export.save(temporary)
        write_atomically(path, temporary.read_bytes())
