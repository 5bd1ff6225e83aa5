"""A trained model with its tokenizer, loaded safely, and what it writes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_lm.data.tokenizers import Tokenizer, tokenizer_from_dict
from keras_lm.generation.generator import Generator, stream_texts
from keras_lm.keras_file.opening import read_model_file
from keras_lm.model.language_model import LanguageModel, build_model
from keras_lm.settings.config import GenerationConfig, ModelConfig


@dataclass(frozen=True)
class Bundle:
    """A model with what is needed to use it.

    Attributes:
        model: the LanguageModel, float32.
        tokenizer: its tokenizer.
        config: its ModelConfig.

    Example:
        >>> from keras_lm.data.tokenizers import CharTokenizer
        >>> tokenizer = CharTokenizer.from_text("hat")
        >>> config = ModelConfig(vocab_size=3, context_length=2, d_model=8, num_heads=2)
        >>> Bundle(build_model(config), tokenizer, config).tokens_cut("that")
        2
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


def load(path: str | Path) -> Bundle:
    """Reads a `.keras` file made by keras_lm; safe on any file.

    Args:
        path: the file.

    Returns:
        Its model (float32), tokenizer and config.

    Raises:
        ModelFileError: when the file is not a sound keras_lm model, with the reason.

    Example:
        >>> import tempfile
        >>> from keras_lm.data.tokenizers import CharTokenizer
        >>> tokenizer = CharTokenizer.from_text("hat").to_dict()
        >>> config = ModelConfig(vocab_size=3, d_model=8, num_heads=2, num_blocks=1)
        >>> model = LanguageModel(config, tokenizer)
        >>> model.build((None, 9))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/mine.keras")
        ...     load(f"{folder}/mine.keras").tokenizer.decode([0, 1, 2])
        'aht'
    """
    content = read_model_file(Path(path))
    model = build_model(content.config, "float32")
    model.set_weights(content.arrays)
    model.tokenizer = content.tokenizer
    return Bundle(model, tokenizer_from_dict(content.tokenizer), content.config)


def generate(bundle: Bundle, prompt: str | Sequence[str], **settings) -> str | list[str]:
    """Continues a text, or several together.

    Args:
        bundle: what `keras_lm.load` gives.
        prompt: any text; or several, of any lengths.
        **settings: fields of GenerationConfig: max_new_tokens, temperature, top_k, top_p, min_p,
            repetition_penalty, seed. Of several prompts, the one at index r has the seed seed + r.

    Returns:
        The continuation, without the prompt; or a list of them.

    Raises:
        ConfigError: when a setting is out of its range.

    Example:
        >>> from keras_lm.data.tokenizers import CharTokenizer
        >>> tokenizer = CharTokenizer.from_text("hat")
        >>> config = ModelConfig(vocab_size=3, context_length=9, d_model=8, num_heads=2)
        >>> bundle = Bundle(build_model(config), tokenizer, config)
        >>> len(generate(bundle, "ha", max_new_tokens=5))
        5
    """
    config = GenerationConfig.from_dict(settings)
    prompts = [prompt] if isinstance(prompt, str) else prompt
    texts = [""] * len(prompts)
    for row, piece in stream_texts(bundle.generator, bundle.tokenizer, prompts, config):
        texts[row] += piece
    return texts[0] if isinstance(prompt, str) else texts
