"""Text to rows of the embedding and back: one file per tokenizer.

A vocabulary is made from the training text and holds only what occurs there, so the embedding has
no row that is never trained. Encoding the training text and decoding it gives the same text. A
prompt may hold more than the vocabulary: `encode` then drops what it cannot express, and `unknown`
says what that was.
"""

from reprlib import repr as short_repr
from typing import Any, NamedTuple

import numpy as np

from keras_lm.data.tokenizers.base import (
    Survey,
    Tokenizer,
    TokenizerError,
    VocabularyTokenizer,
    bad_vocabulary,
)
from keras_lm.data.tokenizers.bpe import BpeTokenizer
from keras_lm.data.tokenizers.characters import CharTokenizer
from keras_lm.data.tokenizers.gpt2 import Gpt2Tokenizer
from keras_lm.data.tokenizers.separated import SeparatedTokenizer, check_separator
from keras_lm.settings.variants import TOKENIZERS

__all__ = [
    "BpeTokenizer",
    "CharTokenizer",
    "Gpt2Tokenizer",
    "SeparatedTokenizer",
    "Survey",
    "Tokenized",
    "Tokenizer",
    "TokenizerError",
    "VocabularyTokenizer",
    "build_tokenizer",
    "check_occurs",
    "rows_within",
    "tokenize",
    "tokenize_further",
    "tokenizer_class",
    "tokenizer_from_dict",
]


class Tokenized(NamedTuple):
    """A text as rows.

    Attributes:
        tokenizer: made from it.
        train, validation: its two parts, (num_tokens,) int32.
    """

    tokenizer: Tokenizer
    train: np.ndarray
    validation: np.ndarray


def tokenizer_class(kind: Any) -> type[VocabularyTokenizer]:
    """The class of a tokenizer's name; TokenizerError for any other.

    Example:
        >>> tokenizer_class("char").__name__
        'CharTokenizer'
    """
    if not isinstance(kind, str) or kind not in TOKENIZERS:
        raise TokenizerError(
            f"The tokenizer must be one of {', '.join(TOKENIZERS)}, but got {short_repr(kind)}."
        )
    return TOKENIZERS[kind].load()


def build_tokenizer(kind: str, *texts: str, **options: Any) -> VocabularyTokenizer:
    """The tokenizer named `kind` for `texts`; TokenizerError for any other name.

    Example:
        >>> build_tokenizer("char", "abc").vocab_size
        3
    """
    return tokenizer_class(kind).from_text(*texts, **options)


def tokenize(
    kind: str, train: str, validation: str = "", separator: str = "", **options: Any
) -> Tokenized:
    """`build_tokenizer` and what it makes of the same text, in one pass and little memory.

    Args:
        kind: a tokenizer's name, such as gpt2 or char.
        train: the text to learn from.
        validation: what follows it, and is only to be predicted.
        separator: what is between documents, which gets a row of its own; "": nothing.
        **options: the tokenizer's own settings.

    Raises TokenizerError when there are no characters, or the separator does not occur.

    Example:
        >>> tokenizer, rows, _ = tokenize("char", "to|do", separator="|")
        >>> rows, tokenizer.stop
        (array([2, 1, 3, 0, 1], dtype=int32), 3)
    """
    parts = [part.split(separator) if separator else [part] for part in (train, validation)]
    documents, held_out = parts
    if separator:
        check_occurs(separator, bool(documents[1:] or held_out[1:]))
    tokenizer, rows = tokenizer_class(kind).tokenize(documents, held_out, **options)
    if not separator:
        return Tokenized(tokenizer, *rows)
    separated = SeparatedTokenizer(tokenizer, separator)
    stop = np.array([separated.stop], "int32")
    train_rows, validation_rows = (
        np.concatenate([part for row in of_part for part in (row, stop)][:-1])
        for of_part in (rows[: len(documents)], rows[len(documents) :])
    )
    return Tokenized(separated, train_rows, validation_rows)


def check_occurs(separator: str, occurs: bool) -> None:
    """TokenizerError unless the separator occurs in the text."""
    if not occurs:
        raise TokenizerError(
            f"The separator must occur in the text, but {short_repr(separator)} does not: leave it "
            "empty, or name several files, between which it is put."
        )


def tokenize_further(
    tokenizer: Tokenizer, train: str, validation: str = "", separator: str = ""
) -> Tokenized:
    """`tokenize` by a tokenizer that there is, extended by what only these texts have.

    Args:
        tokenizer: of a model; where it knows a separator, that is the separator.
        train, validation, separator: as for `tokenize`.

    Raises TokenizerError when the tokenizer cannot be extended.

    Example:
        >>> further, rows, _ = tokenize_further(CharTokenizer("ad"), "dab")
        >>> further.decode(rows), rows_within(further, CharTokenizer("ad"))
        ('dab', array([0, 2]))
    """
    inner = tokenizer
    if isinstance(tokenizer, SeparatedTokenizer):
        inner, separator = tokenizer.inner, tokenizer.separator
    assert isinstance(inner, VocabularyTokenizer)  # as are all but the separated
    texts = (train, validation)
    documents = [
        part for text in texts for part in (text.split(separator) if separator else [text])
    ]
    further: Tokenizer = inner.extended(*documents)
    if separator:
        further = SeparatedTokenizer(further, separator)
    return Tokenized(further, *(np.array(further.encode(text), "int32") for text in texts))


def rows_within(further: Tokenizer, tokenizer: Tokenizer) -> np.ndarray:
    """The rows that a tokenizer's tokens have in one that extends it, (tokenizer.vocab_size,).

    Raises TokenizerError when that lacks one of them.
    """
    row_of = {further.token_bytes(r): r for r in range(further.vocab_size) if r != further.stop}
    tokens = (tokenizer.token_bytes(row) for row in range(tokenizer.vocab_size))
    rows = [
        further.stop if row == tokenizer.stop else row_of.get(token)
        for row, token in enumerate(tokens)
    ]
    if None in rows:
        raise TokenizerError(
            f"The run's tokenizer must have the model's {tokenizer.vocab_size:,} tokens, but lacks "
            f"{short_repr(tokenizer.token_bytes(rows.index(None)))}: start a new run."
        )
    return np.array(rows)


def tokenizer_from_dict(data: Any) -> Tokenizer:
    """The tokenizer that `to_dict` described; `data` may come from anywhere and is checked whole.

    Raises TokenizerError unless the keys, types, ranges and order are exactly those of `to_dict`.

    Example:
        >>> tokenizer_from_dict({"kind": "char", "characters": "abc"}).encode("cab")
        [2, 0, 1]
    """
    if not isinstance(data, dict):
        raise bad_vocabulary("a JSON object", type(data).__name__)
    if "separator" in data:
        separator = check_separator(data["separator"])
        data = {key: value for key, value in data.items() if key != "separator"}
        return SeparatedTokenizer(_from_dict(data), separator)
    return _from_dict(data)


def _from_dict(data: dict[Any, Any]) -> VocabularyTokenizer:
    return tokenizer_class(data.get("kind")).from_dict(data)
