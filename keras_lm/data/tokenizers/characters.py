"""One token per character."""

import re
from collections.abc import Sequence
from reprlib import repr as short_repr
from typing import Any, Self

import numpy as np

from keras_lm.data.tokenizers.base import (
    REPLACEMENT,
    SURROGATE,
    Survey,
    VocabularyTokenizer,
    bad_vocabulary,
    check_not_empty,
    replace_by_rows,
    stored,
)

NUM_CODE_POINTS = 0x110000  # of Unicode
_PIECE = 1_000_000  # characters


class CharTokenizer(VocabularyTokenizer):
    """One token per character (Unicode code point), in the order of their code points.

    Args:
        characters: the vocabulary, strictly ascending, without lone surrogates.

    Example:
        >>> tokenizer = CharTokenizer.from_text("hello")
        >>> tokenizer.encode("hole!"), tokenizer.unknown("hole!")
        ([1, 3, 2, 0], ['!'])
        >>> tokenizer.decode([1, 3, 2, 0])
        'hole'
    """

    kind = "char"
    unit: str = "characters"

    def __init__(self, characters: str) -> None:
        super().__init__([character.encode() for character in characters])
        self._characters = characters
        self._row_of_character = {character: row for row, character in enumerate(characters)}

    @classmethod
    def from_text(cls, *texts: str) -> Self:
        """The tokenizer of all characters in the texts; TokenizerError when there are none."""
        characters = {c for c in set().union(*texts) if not re.match(SURROGATE, c)}
        check_not_empty(characters)
        return cls("".join(sorted(characters)))

    @classmethod
    def from_dict(cls, data: dict[Any, Any]) -> Self:
        """The tokenizer that `to_dict` described; TokenizerError for any other data."""
        characters = stored(data, "characters")
        if not isinstance(characters, str) or not characters:
            raise bad_vocabulary("a string of characters", short_repr(characters))
        for character, before in zip(characters[1:], characters, strict=False):
            if character <= before:
                raise bad_vocabulary("ascending characters", f"{character!r} after {before!r}")
        if lone := re.search(SURROGATE, characters):
            raise bad_vocabulary("characters that have a UTF-8 form", repr(lone[0]))
        return cls(characters)

    @classmethod
    def tokenize(
        cls, documents: Sequence[str], held_out: Sequence[str] = ()
    ) -> tuple[Self, list[np.ndarray]]:
        """The tokenizer of all documents, and the rows of each, (num_tokens,) int32."""
        rows = [_code_points(text) for text in (*documents, *held_out)]
        vocabulary = replace_by_rows(rows, NUM_CODE_POINTS)
        return cls("".join(map(chr, vocabulary))), rows

    def extended(self, *texts: str) -> Self:
        """The tokenizer with all characters of the texts, too.

        Example:
            >>> CharTokenizer("bd").extended("abc").encode("abcd")
            [0, 1, 2, 3]
        """
        return self.from_text(self._characters, *texts)

    @classmethod
    def for_large_text(cls, survey: Survey) -> Self:
        """The tokenizer of all characters that occur."""
        return cls.from_text(survey.alphabet)

    def rows(self, text: str) -> np.ndarray:
        """The rows of a text of which all is known, (num_tokens,) int32.

        Example:
            >>> CharTokenizer("ab").rows("bab").tolist()
            [1, 0, 1]
        """
        known = np.array([*map(ord, self._characters)], "int32")
        row_of = np.zeros(known[-1] + 1, "int32")
        row_of[known] = np.arange(len(known))
        return row_of[_code_points(text)]

    def encode(self, text: str) -> list[int]:
        """The rows of `text`; a character that is not in the vocabulary is dropped."""
        rows = self._row_of_character
        return [rows[character] for character in text if character in rows]

    def unknown(self, text: str) -> list[str]:
        """The distinct characters of `text` that `encode` drops, in their order of appearance."""
        dropped = (c for c in dict.fromkeys(text) if c not in self._row_of_character)
        return list(dict.fromkeys(re.sub(SURROGATE, REPLACEMENT, c) for c in dropped))

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON-able data for `tokenizer_from_dict`."""
        return {"kind": self.kind, "characters": self._characters}


def _code_points(text: str) -> np.ndarray:
    """The text's code points, int32; lone surrogates are dropped."""
    pieces = [np.empty(0, "int32")]
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE].encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(piece, "<i4")
        pieces.append(codes[(codes < 0xD800) | (codes > 0xDFFF)].astype("int32"))
    return np.concatenate(pieces)
