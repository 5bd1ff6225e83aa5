"""A token of its own for what separates documents, added to any tokenizer."""

import re
from itertools import chain
from reprlib import repr as short_repr
from typing import Any

from keras_lm.data.tokenizers.base import (
    SURROGATE,
    Tokenizer,
    VocabularyTokenizer,
    bad_vocabulary,
)


class SeparatedTokenizer(Tokenizer):
    """A tokenizer with one more row, the last: it stands for what separates documents.

    Args:
        inner: the tokenizer of the text between separators.
        separator: any text, such as "<|endoftext|>".

    Example:
        >>> from keras_lm.data.tokenizers.characters import CharTokenizer
        >>> tokenizer = SeparatedTokenizer(CharTokenizer.from_text("ab"), "|")
        >>> tokenizer.encode("a|b"), tokenizer.stop
        ([0, 2, 1], 2)
    """

    def __init__(self, inner: VocabularyTokenizer, separator: str) -> None:
        self.inner, self.separator = inner, separator
        self.kind, self.unit, self.stop = inner.kind, inner.unit, inner.vocab_size

    @property
    def vocab_size(self) -> int:
        """How many rows the embedding needs: rows go from 0 to `vocab_size` - 1."""
        return self.inner.vocab_size + 1

    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes of row `id`, as those of any tokenizer."""
        return self.separator.encode() if id == self.stop else self.inner.token_bytes(id)

    def encode(self, text: str) -> list[int]:
        """The rows of `text`: those of the inner tokenizer, and `stop` for each separator."""
        first, *others = (self.inner.encode(part) for part in text.split(self.separator))
        stop = self.inner.vocab_size
        return first + [row for part in others for row in (stop, *part)]

    def unknown(self, text: str) -> list[str]:
        """The distinct pieces of `text` that `encode` drops, in their order of appearance."""
        parts = map(self.inner.unknown, text.split(self.separator))
        return list(dict.fromkeys(chain.from_iterable(parts)))

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON-able data for `tokenizer_from_dict`."""
        return self.inner.to_dict() | {"separator": self.separator}


def check_separator(separator: Any) -> str:
    """A stored separator; TokenizerError unless it is some characters that have a UTF-8 form."""
    if not isinstance(separator, str) or not separator or re.search(SURROGATE, separator):
        raise bad_vocabulary("a separator of some characters", short_repr(separator))
    return separator
