"""A finished model that a run goes on with on another text: what it decides, and its weights.

The run's folder gets a copy of the model's file first, and from then on reads only that.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_lm.data.tokenizers import (
    SeparatedTokenizer,
    Tokenizer,
    rows_within,
    tokenizer_from_dict,
)
from keras_lm.keras_file.opening import (
    MAX_FILE_BYTES,
    ModelContent,
    ModelFileError,
)
from keras_lm.settings.config import ConfigError, ModelConfig, RunConfig
from keras_lm.storage.files import (
    MOST_JSON_BYTES,
    DamagedFile,
    read_plain,
    sha256,
    write_atomically,
)
from keras_lm.storage.run_folder import RunFolder

FREE = ("vocab_size", "dropout")  # of a model's settings, those that another run may change
EMBEDDING, OUTPUT_LAYER = "embedding/", "layers/dense/"  # begin the paths of weights with tokens
NGRAM_TABLES = "layers/ngram_embedding/"


def keep_initial(folder: RunFolder, config: RunConfig) -> None:
    """Copies the model that the config names into the run's folder, unless it is there.

    The config of the run that made it comes along, where it stands beside the model. ConfigError
    when there is no such file.
    """
    if not config.data.init_from or folder.initial_model.is_file():
        return
    original = Path(config.data.init_from)
    content = _content(original, MAX_FILE_BYTES)
    if content is None:
        raise ConfigError(f"must name a .keras file, but there is no file {original}.", "init_from")
    if (made_with := _content(RunFolder(original.parent).config_file, MOST_JSON_BYTES)) is not None:
        write_atomically(folder.initial_config, made_with)
    write_atomically(folder.initial_model, content)


def _content(path: Path, most_bytes: int) -> bytes | None:
    try:
        return read_plain(path, most_bytes)
    except DamagedFile as error:
        raise ConfigError(f"cannot be copied: {error}", "init_from") from None


def initial_file(config: RunConfig, folder: RunFolder | None = None) -> Path | None:
    """The model's file: the copy in the run's folder, before that the original; None without."""
    if folder is not None and folder.initial_model.is_file():
        return folder.initial_model
    return Path(config.data.init_from) if config.data.init_from else None


def file_like(folder: RunFolder, init_from: str) -> str:
    """What a run like the one in `folder` goes on with: the same file, else that run's copy."""
    try:
        if sha256(Path(init_from)) == sha256(folder.initial_model):
            return init_from
    except OSError:
        pass
    return str(folder.initial_model.absolute()) if folder.initial_model.is_file() else init_from


def settled(config: RunConfig, content: ModelContent, typed: Mapping[str, Any]) -> RunConfig:
    """The config with what the model decides: its shape and its tokenizer.

    Args:
        config: what the run is made from.
        content: of the model's file.
        typed: settings that a person gave, by name.

    Raises ConfigError with one sentence when one of these differs from the model's.
    """
    shape = {k: v for k, v in content.config.to_dict().items() if k not in FREE}
    tokenizer = tokenizer_from_dict(content.tokenizer)
    text: dict[str, Any] = {"tokenizer": tokenizer.kind}
    if tokenizer.kind == "bpe":
        text["bpe_size"] = tokenizer.vocab_size - isinstance(tokenizer, SeparatedTokenizer)
    if isinstance(tokenizer, SeparatedTokenizer):
        text["separator"] = tokenizer.separator.replace("\n", "\\n")
    typed = {k: v.replace("\n", "\\n") if k == "separator" else v for k, v in typed.items()}
    for name, decided in (shape | text).items():
        if typed.get(name, decided) != decided:
            raise ConfigError(
                f"must be {decided}, as in the model of init_from, but got {typed[name]!r:.60}: "
                "leave it out.",
                name,
            )
    model = content.config.changed(vocab_size=0, dropout=config.model.dropout)
    return RunConfig(model, config.data.changed(**text), config.training)


def check_shape(initial: ModelConfig, model: ModelConfig) -> None:
    """ConfigError unless a run of the shape `model` can go on with a model of the shape `initial`.

    The vocabulary may be larger, except where groups of tokens share rows: they would get others.
    """
    for name, value in initial.to_dict().items():
        if name not in FREE and getattr(model, name) != value:
            raise ConfigError(
                f"must be {value}, as in the model of init_from, but got {getattr(model, name)}: "
                "choose the model's.",
                name,
            )
    grows = model.vocab_size > initial.vocab_size
    if grows and not (_has_row_per_group(initial) and _has_row_per_group(model)):
        raise ConfigError(
            f"The text needs {model.vocab_size:,} tokens, but the model has "
            f"{initial.vocab_size:,}, and tables of n-grams whose rows are shared cannot be "
            "extended: choose a text of the model's tokens, or a model with ngram_order 1."
        )


def _has_row_per_group(model: ModelConfig) -> bool:
    tables = enumerate(model.ngram_tables(), 2)
    return all(rows == (model.vocab_size + 1) ** size for size, rows in tables)


def initial_weights(
    content: ModelContent, tokenizer: Tokenizer, model: ModelConfig, fresh: list[np.ndarray]
) -> list[np.ndarray]:
    """The model's weights, with those of further tokens as in a fresh model.

    Args:
        content: of the model's file.
        tokenizer: of the run: the model's, perhaps extended.
        model: the run's shape, with its vocabulary.
        fresh: weights of `model.weight_shapes()`, float32.

    Returns:
        Weights of the same shapes.

    Raises ValueError (ConfigError, TokenizerError) when the run cannot go on with this model.
    """
    check_shape(content.config, model)
    rows = rows_within(tokenizer, tokenizer_from_dict(content.tokenizer))  # (initial vocab_size,)
    weights = []
    for path, given, new in zip(model.weight_shapes(), content.arrays, fresh, strict=True):
        array = new.copy()
        if path.startswith(EMBEDDING):
            array[rows] = given  # (vocab_size, d_model)
        elif path.startswith(OUTPUT_LAYER):
            array[:, rows] = given  # (d_model, vocab_size)
        elif path.startswith(NGRAM_TABLES) and array.shape != given.shape:
            array[_rows_of_groups(rows, len(given), tokenizer.vocab_size)] = given
        elif array.shape != given.shape:
            raise ModelFileError("The model to go on with has other weights than its settings say.")
        else:
            array = given
        weights.append(array)
    return weights


def _rows_of_groups(rows: np.ndarray, num_groups: int, vocab_size: int) -> np.ndarray:
    """Where the rows of a table of n-grams are in that of a larger vocabulary, (num_groups,)."""
    tokens = np.concatenate([[0], rows + 1])  # 0: before the text; (initial vocab_size + 1,)
    groups = tokens
    while len(groups) < num_groups:
        # (groups, 1) + (tokens,) -> (groups * tokens,)
        groups = (groups[:, None] * (vocab_size + 1) + tokens).reshape(-1)
    return groups
