"""What an entry of each kind of variant says: names and sentences, options, shapes, costs.

The entries themselves are in `variants.py`.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from keras_lm.settings.checks import Checked

GREY = "#6b7280"

# A function of a ModelConfig, which has the variants' options as attributes.
Shapes = list[tuple[int, ...]]


@dataclass(frozen=True)
class Variant:
    """What every kind of variant has.

    Attributes:
        name: what flags and files call it.
        label: what the page calls it.
        sentence: what it does and when to choose it; its beginning, the name, is left out.
        code: "module:name" of what makes it; imported when a model is built.
        colour: of its curves in charts.
        options: a dataclass of the settings that it alone has; None: none. Each becomes a flag, a
            field of the form, a key of config.json and an attribute of ModelConfig.
    """

    name: str
    label: str
    sentence: str
    code: str = ""
    colour: str = GREY
    options: type[Checked] | None = None

    def load(self) -> Any:
        """What `code` names; the first call imports TensorFlow."""
        module, _, name = self.code.partition(":")
        return getattr(importlib.import_module(module), name)

    def option_specs(self) -> tuple[dataclasses.Field, ...]:
        """Its own settings."""
        return self.options.specs() if self.options else ()

    def own_options(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `values` that are its own options."""
        names = {spec.name for spec in self.option_specs()}
        return {name: value for name, value in values.items() if name in names}


@dataclass(frozen=True)
class Attention(Variant):
    """An attention; `code` names a CausalSelfAttention, whose arguments its options are.

    Attributes:
        is_exact: with the same weights it equals softmax attention over the whole past.
        sees_whole_past: every earlier token can change a result.
        shapes: of its further weights: for each layer inside it, by name, that layer's arrays.
            "qkv" replaces the shape that the layer of that name usually has.
        scores: how many scores there are per token and head, the mean over the context.
        scores_kept: how many of these numbers the backward pass needs; None: all.
        block_bytes: bytes of memory that compiling it takes per block.
        block_seconds: seconds that compiling it takes per block, on the machine of `estimates`.
        row_seconds: the same, per block and token of the context.
        copies: how often it copies a token's features, apart from products and scores.
        warnings: sentences about settings with which it cannot do what it is for.
    """

    is_exact: bool = True
    sees_whole_past: bool = True
    shapes: Callable[[Any], dict[str, Shapes]] = lambda config: {}
    scores: Callable[[Any], float] = lambda config: config.context_length / 2
    scores_kept: Callable[[Any], float] | None = None
    block_bytes: int = 0
    block_seconds: float = 0.0
    row_seconds: float = 0.0
    copies: int = 0
    warnings: Callable[[Any], list[str]] = lambda config: []


@dataclass(frozen=True)
class Norm(Variant):
    """A normalization; `code` names what makes a Keras layer of `use_bias` and its options.

    Attributes:
        shapes: of its weights.
    """

    shapes: Callable[[Any], Shapes] = lambda config: [(config.d_model,)]


@dataclass(frozen=True)
class Activation(Variant):
    """A non-linearity; `code` names a function of (..., width * ffn_dim) to (..., ffn_dim).

    Attributes:
        width: size of its input, in units of ffn_dim.
        kept: numbers that the backward pass needs, in units of ffn_dim.
    """

    width: int = 1
    kept: int = 2


@dataclass(frozen=True)
class Positions(Variant):
    """How a model knows the order of tokens.

    `code` names a function that turns queries or keys (..., length, head_dim) by their positions
    (length,); empty: they stay as they are.

    Attributes:
        has_table: a trained vector per position is added to the embedding, so that the context is
            as long as the table.
        needs_even_heads: the head size must be even.
    """

    has_table: bool = False
    needs_even_heads: bool = False


@dataclass(frozen=True)
class Tokenizer(Variant):
    """How a text becomes tokens; `code` names a VocabularyTokenizer."""


@dataclass(frozen=True)
class Optimizer(Variant):
    """How gradients change weights.

    `code` names a function of a TrainingConfig and a learning rate's schedule to a Keras optimizer.

    Attributes:
        products: operations of matrix products per update, for each weight of the blocks' matrices.
        block_seconds: seconds that compiling it takes per block, on the machine of `estimates`.
        usual_rate: a learning rate that suits most small models; 0: none is known.
        usual_warmup: steps of warm-up that it needs at higher rates; 0: it needs none.
    """

    products: Callable[[Any], float] = lambda config: 0.0
    block_seconds: float = 0.0
    usual_rate: float = 0.0
    usual_warmup: int = 0


@dataclass(frozen=True)
class Task(Variant):
    """A generated task; `code` names a function of a generator, a count and a length to instances.

    Attributes:
        unit: what a length counts.
        length: the default.
        shortest, longest: what a length may be.
        size: characters of an instance of some length, its new line included.
    """

    unit: str = "letters"
    length: int = 8
    shortest: int = 1
    longest: int = 500
    size: Callable[[int], int] = lambda length: 2 * length + 2


@dataclass(frozen=True)
class Format(Variant):
    """A kind of files that a trained model becomes.

    `code` names a function of a `keras_lm.export.exported.Exported` and a folder, into which it
    writes the model; a ConfigError says why this model cannot be written. It returns None, or a
    sentence that a person should read before using the file. Empty: a copy.

    Attributes:
        file: the name of the model's file, if it is one file that can be used alone.
        needs: modules that must be installed, of the extra `export`.
        needs_tensorflow: whether it is loaded.
        measures: whether it needs the run's text, to say what it costs.
    """

    file: str = ""
    needs: tuple[str, ...] = ()
    needs_tensorflow: bool = False
    measures: bool = False

    @property
    def suffix(self) -> str:
        """The ending of its file's name, with the dot; "" without one.

        Example:
            >>> Format("onnx", "ONNX", "runs.", file="model.onnx").suffix
            '.onnx'
        """
        return PurePath(self.file).suffix
