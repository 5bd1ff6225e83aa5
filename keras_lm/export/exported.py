"""A trained model as every format gets it: config, tokenizer, weights and its story."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from keras_lm.data.corpus import Corpus
from keras_lm.data.task_corpus import TaskCorpus
from keras_lm.data.tokenizers import Tokenizer
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import DataConfig, ModelConfig
from keras_lm.settings.data_config import TASK_NAMES

# Names of arrays: of layers by their paths in a `.keras` file, and of the arrays inside a layer.
LAYERS = {
    "layers/embedding_1": "position_embedding",
    "layers/ngram_embedding/tables/embedding_1": "ngrams_3",
    "layers/ngram_embedding/tables/embedding": "ngrams_2",
    "layers/dense": "output",
    "attention/output_projection": "attention/output",
    "feed_forward/": "",
    "blocks/decoder_block_": "block_",
    "blocks/decoder_block/": "block_0/",
}
ARRAYS = ("weight", "bias")
ARRAYS_OF_SLOTS = ("weight", "gate", "log_rate")
# What the formats that do not trace the model know of it; other settings must be at their default.
KNOWN_SETTINGS = set(
    "vocab_size context_length d_model num_heads num_blocks ffn_dim dropout attention norm "
    "activation positions tie_embeddings use_bias qk_norm logit_soft_cap zero_init chunk_length "
    "num_slots ngram_order ngram_rows".split()
)
KNOWN_VARIANTS = {
    "attention": ("standard", "flash", "linear"),
    "norm": ("layernorm", "rmsnorm"),
    "activation": ("gelu", "swiglu", "relu", "relu2"),
    "positions": ("rotary", "learned"),
}


@dataclass(frozen=True)
class Exported:
    """A model to be written.

    Attributes:
        config: its shape.
        tokenizer: its tokenizer.
        arrays: its weights in float32, in the order of `config.weight_shapes()`.
        title: what it is called: its text's name.
        course: sentences about how it was trained; "" when nothing is known.
        run: the settings of its run, as JSON.
        corpus: the run's text, for formats that measure by it; None: it is not known.
        no_corpus: why it is not.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    arrays: list[np.ndarray]
    title: str
    course: str
    run: dict[str, Any]
    corpus: Corpus | None = None
    no_corpus: str = "the text is not known"

    @cached_property
    def task(self) -> TaskCorpus | None:
        """The task that the model learned; None: it learned a text."""
        data = self.run.get("data", {})
        if data.get("data") not in TASK_NAMES:
            return None
        lengths = {name: data.get(name, 0) for name in ("task_length", "task_test_length")}
        return TaskCorpus.of(DataConfig(data["data"], **lengths))

    @property
    def prompt(self) -> str:
        """What may be continued first."""
        return self.task.questions(1)[0] if self.task else "The man"

    def named_arrays(self) -> dict[str, np.ndarray]:
        """The weights by readable names, such as `block_0.attention.qkv.weight`.

        A matrix is (inputs, outputs), so that rows of features are multiplied from the left.
        """
        paths = self.config.weight_shapes()
        return {name_of(path): x for path, x in zip(paths, self.arrays, strict=True)}

    def write_config(self, folder: Path) -> None:
        """Writes `config.json`: the settings, the token between documents, what to continue.

        `firsts` has the least token that a text without a prompt may begin with, and one more than
        the last.
        """
        values = {"model_type": "keras_lm", "title": self.title, "stop": self.tokenizer.stop}
        firsts = self.tokenizer.firsts or range(self.tokenizer.vocab_size)
        values |= {"firsts": [firsts.start, firsts.stop], "prompt": self.prompt}
        values |= self.config.to_dict()
        (folder / "config.json").write_text(json.dumps(values, indent=2), "utf-8")


def check_is_plain(config: ModelConfig, label: str) -> None:
    """ConfigError when a model has what the formats that do not trace it lack.

    Args:
        config: the model's.
        label: of the format.
    """
    advice = "choose the format onnx, litert or saved_model, which take any model."
    for name, known in KNOWN_VARIANTS.items():
        if (got := getattr(config, name)) not in known:
            expected = ", ".join(known)
            raise ConfigError(f"{label} needs {name} of {expected}, but got {got}: {advice}")
    for spec in config.specs():
        got = getattr(config, spec.name)
        if spec.name not in KNOWN_SETTINGS and got != spec.default:
            raise ConfigError(
                f"{label} needs {spec.name} to be {spec.default}, but got {got}: {advice}"
            )


def name_of(path: str) -> str:
    """The name of an array by its path in a `.keras` file.

    Example:
        >>> name_of("blocks/decoder_block_1/attention/qkv/vars/0"), name_of("layers/dense/vars/0")
        ('block_1.attention.qkv.weight', 'output.weight')
    """
    layer, _, index = path.rpartition("/vars/")
    names = ARRAYS_OF_SLOTS if layer.endswith("/slots") else ARRAYS
    for old, new in LAYERS.items():
        layer = layer.replace(old, new)
    name = names[int(index)] if int(index) < len(names) else index
    return f"{layer}.{name}".replace("/", ".")
