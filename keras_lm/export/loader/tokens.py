"""Text to token ids and back, from a Hugging Face `tokenizer.json`; the standard library only."""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

SURROGATE = re.compile(r"[\ud800-\udfff]")  # which has no bytes
# GPT-2's pattern for the shape of a text, in which every character is one of ASCII.
WORD = re.compile(
    r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s", re.ASCII
)


def letters_of_bytes() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary.

    Example:
        >>> letters_of_bytes()[ord("A")], letters_of_bytes()[ord(" ")]
        ('A', 'Ġ')
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = (byte for byte in range(256) if byte not in visible)
    letters = {byte: chr(byte) for byte in visible}
    letters |= {byte: chr(256 + index) for index, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]


LETTERS = letters_of_bytes()
BYTES = {letter: byte for byte, letter in enumerate(LETTERS)}


class Shapes(dict):
    """Of each character, one of ASCII of the same kind; found when it is asked for."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if code < 128:
            shape = character
        elif character.isspace():
            shape = "\t"
        else:
            shape = {"L": "x", "N": "0"}.get(unicodedata.category(character)[0], "!")
        self[code] = shape
        return shape


SHAPES = Shapes()


def words(text: str) -> Iterator[str]:
    """The words of a text as GPT-2 cuts them, each with the space before it.

    Example:
        >>> list(words("The man, who"))
        ['The', ' man', ',', ' who']
    """
    for found in WORD.finditer(text.translate(SHAPES)):
        yield text[found.start() : found.end()]


class Tokens:
    """The tokenizer of a model.

    Args:
        folder: with its `tokenizer.json` and `config.json`.
    """

    def __init__(self, folder: Path) -> None:
        stored = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.vocab_size: int = config["vocab_size"]
        self.stop: int | None = config.get("stop")  # the token between documents
        self.first: int = config.get("firsts", [0])[0]  # the least that a text may begin with
        self.separator = "".join(token["content"] for token in stored["added_tokens"])
        self.ids: dict[str, int] = stored["model"]["vocab"]
        self.tokens = {id: token for token, id in self.ids.items()}
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(stored["model"]["merges"])}
        self.has_bytes = stored["pre_tokenizer"] is not None

    def encode(self, text: str) -> list[int]:
        """The ids of a text; what the vocabulary cannot express is left out."""
        ids: list[int] = []
        for index, part in enumerate(text.split(self.separator) if self.separator else [text]):
            if index and self.stop is not None:
                ids.append(self.stop)
            for piece in SURROGATE.split(part):
                ids += self._of_words(piece) if self.has_bytes else self._known(piece)
        return ids

    def _of_words(self, text: str) -> list[int]:
        tokens = (token for word in words(text) for token in self._merge(word.encode()))
        return [id for token in tokens for id in self._known(token)]

    def _merge(self, word: bytes) -> list[str]:
        parts = [LETTERS[byte] for byte in word]
        while len(parts) > 1:
            ranks = [self.ranks.get(pair, len(self.ranks)) for pair in pairwise(parts)]
            first = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[first] == len(self.ranks):
                break
            parts[first : first + 2] = [parts[first] + parts[first + 1]]
        return parts

    def _known(self, text: str) -> Iterator[int]:
        """The ids of the longest known tokens that a text begins with, one after the other."""
        while text:
            lengths = range(len(text) if self.has_bytes else 1, 0, -1)
            known = (
                n for n in lengths if self.ids.get(text[:n], self.vocab_size) < self.vocab_size
            )
            length = next(known, 0)
            if length:
                yield self.ids[text[:length]]
            text = text[length or 1 :]

    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes of a token, perhaps only part of a character."""
        token = self.tokens.get(id, self.separator)  # of one letter, it has that byte's name
        is_text = id == self.stop or not self.has_bytes
        return token.encode() if is_text else bytes(map(BYTES.__getitem__, token))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids."""
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")
