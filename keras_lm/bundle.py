"""The `.keras` file for people: a model with its tokenizer, saved whole, loaded safely."""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

from keras_lm.config import ModelConfig
from keras_lm.files import PARTIAL, write_atomically
from keras_lm.generation import Generator
from keras_lm.model import LanguageModel, build_model
from keras_lm.model_file import read_model_file
from keras_lm.tokenizer import Tokenizer, tokenizer_from_dict


@dataclass(frozen=True)
class Bundle:
    """A model with what is needed to use it.

    Attributes:
        model: the LanguageModel, float32.
        tokenizer: its tokenizer.
        config: its ModelConfig.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    config: ModelConfig

    @functools.cached_property
    def generator(self) -> Generator:
        """The model's Generator, made once, so that its compiled loop is reused."""
        return Generator(self.model)

    def tokens_cut(self, prompt: str) -> int:
        """How many of the prompt's first tokens lie before the context and are not read."""
        return max(0, len(self.tokenizer.encode(prompt)) - self.config.context_length)


def save_model(path: Path, model: LanguageModel, tokenizer: dict) -> None:
    """Writes `model` with its tokenizer as a `.keras` file in float32, whole or not at all.

    Args:
        path: where; an old file there is replaced.
        model: any precision.
        tokenizer: its `to_dict()`.
    """
    export = LanguageModel(model.config, tokenizer, dtype="float32", name="language_model")
    export.build((None, model.config.context_length))
    export.set_weights(model.get_weights())
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=path.parent) as folder:
        temporary = Path(folder, "model.keras")
        export.save(temporary)
        write_atomically(path, temporary.read_bytes())


def load(path: str | Path) -> Bundle:
    """Reads a `.keras` file of ours; safe on any file.

    Args:
        path: the file.

    Returns:
        Its model (float32), tokenizer and config.

    Raises:
        ModelFileError: when the file is not a sound model of ours, with the reason.
    """
    config, tokenizer, arrays = read_model_file(Path(path))
    model = build_model(config, "float32")
    model.set_weights(arrays)
    model.tokenizer = tokenizer
    return Bundle(model, tokenizer_from_dict(tokenizer), config)
