"""Text to rows of the embedding and back: GPT-2's tokens with a compact vocabulary, or characters.

A vocabulary is made from the training text and holds only what occurs there, so the embedding has
no row that is never trained. Encoding the training text and decoding it gives the same text. A
prompt may hold more than the vocabulary: `encode` then drops what it cannot express, and `unknown`
says what that was.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, Self

import numpy as np
import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

KINDS = ("char", "gpt2")
GPT2_SIZE = 50_256  # `<|endoftext|>` would be one more, but here it is text like any other
RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
REPLACEMENT = "\ufffd"  # what a lone surrogate is shown as: it has no UTF-8 of its own

_SURROGATE = r"[\ud800-\udfff]"
_SPACE, _INK = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]"  # tiktoken's \s and \S: Python's hold four more
# tiktoken panics at a million white spaces followed by something else. It takes such a run as one
# piece but for the last white space, so a cut before that one leaves every token as it is. Words of
# that size are cut out, too: tiktoken would take longer than a second for a megabyte.
_WINDOW = 100_000
_CUTS = re.compile(
    rf"(?={_SPACE}{_INK})(?<={_SPACE}{{999}})|({_SURROGATE}"
    rf"|(?:^|{_SPACE})[!-~]{{{_WINDOW},}}+(?!{_INK}))"
)
_PIECE = 1_000_000  # characters
_SINGLE_SPACE = re.compile(rf"(?<={_INK}) (?={_INK})")


class TokenizerError(ValueError):
    """A text, an id or a stored vocabulary that cannot be used; the message is one sentence."""


class _Tokenizer:
    """What both kinds share: rows, and the bytes of the token of each row."""

    kind: str
    stop: int | None = None  # the row in which a document ends

    def __init__(self, tokens: list[bytes]) -> None:
        self._tokens = tokens

    @property
    def vocab_size(self) -> int:
        """How many rows the embedding needs: rows go from 0 to `vocab_size` - 1."""
        return len(self._tokens)

    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes of row `id`, maybe only a part of a character's; TokenizerError if none.

        A stream feeds them to an incremental decoder, so that characters appear whole.
        """
        if not 0 <= id < self.vocab_size:
            raise TokenizerError(
                f"A token id must be from 0 to {self.vocab_size - 1}, but got {id}; use ids that "
                "this tokenizer made."
            )
        return self._tokens[id]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD. TokenizerError as above."""
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")


class SeparatedTokenizer:
    """A tokenizer with one more row, the last: it stands for what separates documents.

    Args:
        inner: the tokenizer of all that stands between.
        separator: any text, such as "<|endoftext|>".
    """

    def __init__(self, inner: "Gpt2Tokenizer | CharTokenizer", separator: str) -> None:
        self.inner, self.separator = inner, separator
        self.kind, self.stop = inner.kind, inner.vocab_size

    @property
    def vocab_size(self) -> int:
        """How many rows the embedding needs: rows go from 0 to `vocab_size` - 1."""
        return self.inner.vocab_size + 1

    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes of row `id`, as those of any tokenizer."""
        return self.separator.encode() if id == self.stop else self.inner.token_bytes(id)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`."""
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")

    def encode(self, text: str) -> list[int]:
        """The rows of `text`: those of the inner tokenizer, and `stop` for each separator."""
        first, *others = (self.inner.encode(part) for part in text.split(self.separator))
        return first + [row for part in others for row in (self.stop, *part)]

    def unknown(self, text: str) -> list[str]:
        """The distinct pieces of `text` that `encode` drops, in their order of appearance."""
        parts = map(self.inner.unknown, text.split(self.separator))
        return list(dict.fromkeys(chain.from_iterable(parts)))

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON-able data for `tokenizer_from_dict`."""
        return self.inner.to_dict() | {"separator": self.separator}


class Gpt2Tokenizer(_Tokenizer):
    """GPT-2's byte-pair encoding; row i stands for the i-th smallest GPT-2 id of the vocabulary."""

    kind = "gpt2"

    def __init__(self, gpt2_ids: list[int]) -> None:
        """`gpt2_ids`: the vocabulary, strictly ascending, each from 0 to 50,255."""
        super().__init__([_encoding().decode_single_token_bytes(id) for id in gpt2_ids])
        self._gpt2_ids = gpt2_ids
        self._row_of_bytes = {token: row for row, token in enumerate(self._tokens)}

    @classmethod
    def from_text(cls, *texts: str) -> Self:
        """The tokenizer of all tokens in the texts; TokenizerError when there are none."""
        ids = set(np.unique(np.concatenate([_gpt2_ids(text) for text in texts])).tolist())
        return cls(sorted(_not_empty(ids - {_LONE_SURROGATE})))

    def encode(self, text: str) -> list[int]:
        """The rows of `text`: tiktoken's tokens, an unknown one as its longest known parts.

        Bytes that no known token covers are dropped; `<|endoftext|>` is text like any other.
        """
        return [row for row in self._rows(text) if row >= 0]

    def unknown(self, text: str) -> list[str]:
        """The distinct pieces of `text` that `encode` drops, in their order of appearance."""
        runs = groupby(self._rows(text), lambda row: row < 0)
        dropped = (bytes(~row for row in run) for is_dropped, run in runs if is_dropped)
        return list(dict.fromkeys(piece.decode(errors="replace") for piece in dropped))

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON-able data for `tokenizer_from_dict`."""
        return {"kind": self.kind, "ids": list(self._gpt2_ids)}

    def _rows(self, text: str) -> list[int]:
        """The rows of `text`, with ~b in the place of a byte b that no known token covers."""
        ids = _gpt2_ids(text).tolist()
        rows_of_id = {id: self._rows_of_token(id) for id in set(ids)}
        return list(chain.from_iterable(map(rows_of_id.__getitem__, ids)))

    def _rows_of_token(self, gpt2_id: int) -> list[int]:
        if gpt2_id == _LONE_SURROGATE:
            return [~byte for byte in REPLACEMENT.encode()]
        rest, rows = _encoding().decode_single_token_bytes(gpt2_id), []
        while rest:
            prefixes = (rest[:length] for length in range(len(rest), 0, -1))
            known = next((prefix for prefix in prefixes if prefix in self._row_of_bytes), b"")
            rows.append(self._row_of_bytes[known] if known else ~rest[0])
            rest = rest[max(1, len(known)) :]
        return rows


class CharTokenizer(_Tokenizer):
    """One token a character (Unicode code point), in the order of their code points."""

    kind = "char"

    def __init__(self, characters: str) -> None:
        """`characters`: the vocabulary, strictly ascending, without lone surrogates."""
        super().__init__([character.encode() for character in characters])
        self._characters = characters
        self._row_of_character = {character: row for row, character in enumerate(characters)}

    @classmethod
    def from_text(cls, *texts: str) -> Self:
        """The tokenizer of all characters in the texts; TokenizerError when there are none."""
        characters = {c for c in set().union(*texts) if not re.match(_SURROGATE, c)}
        return cls("".join(sorted(_not_empty(characters))))

    def encode(self, text: str) -> list[int]:
        """The rows of `text`; a character that is not in the vocabulary is dropped."""
        rows = self._row_of_character
        return [rows[character] for character in text if character in rows]

    def unknown(self, text: str) -> list[str]:
        """The distinct characters of `text` that `encode` drops, in their order of appearance."""
        dropped = (c for c in dict.fromkeys(text) if c not in self._row_of_character)
        return list(dict.fromkeys(re.sub(_SURROGATE, REPLACEMENT, c) for c in dropped))

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON-able data for `tokenizer_from_dict`."""
        return {"kind": self.kind, "characters": self._characters}


Tokenizer = Gpt2Tokenizer | CharTokenizer | SeparatedTokenizer


def build_tokenizer(kind: str, *texts: str) -> Gpt2Tokenizer | CharTokenizer:
    """The tokenizer of a `kind` (gpt2 or char) for `texts`; TokenizerError for any other kind."""
    return _class_of(kind).from_text(*texts)


def tokenize(kind: str, text: str, separator: str = "") -> tuple[Tokenizer, np.ndarray]:
    """`build_tokenizer` and what it makes of the same text, in one pass and little memory.

    Args:
        kind: gpt2 or char.
        text: the text.
        separator: what stands between its documents, which gets a row of its own; "": nothing.

    Returns:
        The tokenizer, and the rows of `text`, (num_tokens,) int32.

    Raises TokenizerError when there are no characters, or the separator does not occur.
    """
    documents = text.split(separator) if separator else [text]
    if separator and len(documents) == 1:
        raise TokenizerError(
            f"The separator must occur in the text, but {short_repr(separator)} does not: leave it "
            "empty, or name several files, between which it is put."
        )
    tokenizer, rows = _tokenize(kind, documents)
    if not separator:
        return tokenizer, rows[0]
    separated = SeparatedTokenizer(tokenizer, separator)
    stop = np.array([separated.stop], "int32")
    return separated, np.concatenate([part for row in rows for part in (row, stop)][:-1])


def _tokenize(
    kind: str, documents: list[str]
) -> tuple[Gpt2Tokenizer | CharTokenizer, list[np.ndarray]]:
    """The tokenizer of all documents, and the rows of each."""
    is_char = _class_of(kind) is CharTokenizer
    ids = [_code_points(text) if is_char else _gpt2_ids(text) for text in documents]
    if not is_char and any(_LONE_SURROGATE in part for part in ids):  # it may have its own row
        tokenizer = build_tokenizer(kind, *documents)
        return tokenizer, [np.array(tokenizer.encode(text), "int32") for text in documents]
    occurs = np.zeros(0x110000, bool)
    for part in ids:
        occurs[part] = True
    vocabulary = np.flatnonzero(occurs).tolist()
    _not_empty(set(vocabulary))
    row_of_id = np.cumsum(occurs, dtype="int32") - 1
    for part in ids:
        for start in range(0, len(part), _PIECE):  # a whole copy would be large
            part[start : start + _PIECE] = row_of_id[part[start : start + _PIECE]]
    if is_char:
        return CharTokenizer("".join(map(chr, vocabulary))), ids
    return Gpt2Tokenizer(vocabulary), ids


def _code_points(text: str) -> np.ndarray:
    """The text's code points, int32; lone surrogates are dropped."""
    pieces = [np.empty(0, "int32")]
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE].encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(piece, "<i4")
        pieces.append(codes[(codes < 0xD800) | (codes > 0xDFFF)].astype("int32"))
    return np.concatenate(pieces)


def tokenizer_from_dict(data: Any) -> Tokenizer:
    """The tokenizer that `to_dict` described; `data` may come from anywhere and is checked whole.

    Raises TokenizerError unless the keys, types, ranges and order are exactly those of `to_dict`.
    """
    if not isinstance(data, dict):
        raise _bad_vocabulary("a JSON object", type(data).__name__)
    if "separator" in data:
        separator = data["separator"]
        if not isinstance(separator, str) or not separator or re.search(_SURROGATE, separator):
            raise _bad_vocabulary("a separator of some characters", short_repr(separator))
        rest = {key: value for key, value in data.items() if key != "separator"}
        return SeparatedTokenizer(tokenizer_from_dict(rest), separator)
    cls = _class_of(data.get("kind"))
    content = "ids" if cls is Gpt2Tokenizer else "characters"
    if set(data) != {"kind", content}:
        raise _bad_vocabulary(f"the keys kind and {content}", short_repr(list(data)))
    return (_gpt2_from if cls is Gpt2Tokenizer else _char_from)(data[content])


def _gpt2_from(ids: Any) -> Gpt2Tokenizer:
    if not isinstance(ids, list) or not 0 < len(ids) <= GPT2_SIZE:
        raise _bad_vocabulary(f"a list of 1 to {GPT2_SIZE:,} GPT-2 ids", short_repr(ids))
    for id, before in zip(ids, [-1, *ids], strict=False):
        if type(id) is not int or not before < id < GPT2_SIZE:
            raise _bad_vocabulary(f"ascending GPT-2 ids below {GPT2_SIZE:,}", short_repr(id))
    return Gpt2Tokenizer(ids)


def _char_from(characters: Any) -> CharTokenizer:
    if not isinstance(characters, str) or not characters:
        raise _bad_vocabulary("a string of characters", short_repr(characters))
    for character, before in zip(characters[1:], characters, strict=False):
        if character <= before:
            raise _bad_vocabulary("ascending characters", f"{character!r} after {before!r}")
    if lone := re.search(_SURROGATE, characters):
        raise _bad_vocabulary("characters that have a UTF-8 form", repr(lone[0]))
    return CharTokenizer(characters)


def _bad_vocabulary(expected: str, got: str) -> TokenizerError:
    return TokenizerError(
        f"A stored tokenizer needs {expected}, but got {got}; write it again with to_dict()."
    )


def _class_of(kind: Any) -> type[Gpt2Tokenizer] | type[CharTokenizer]:
    if kind not in KINDS:
        raise TokenizerError(
            f"The tokenizer must be one of {', '.join(KINDS)}, but got {short_repr(kind)}."
        )
    return Gpt2Tokenizer if kind == "gpt2" else CharTokenizer


def _not_empty(vocabulary: set) -> set:
    if not vocabulary:
        raise TokenizerError(
            "A tokenizer needs a text, but got one without characters; choose another."
        )
    return vocabulary


_LONE_SURROGATE = -1  # stands for it among GPT-2 ids: tiktoken would make it U+FFFD silently


def _gpt2_ids(text: str) -> np.ndarray:
    """The GPT-2 ids of `text`, equal to tiktoken's, int32; -1 for a lone surrogate."""
    ids = [np.empty(0, "int32")]
    for part in filter(None, _CUTS.split(text)):
        if re.fullmatch(_SURROGATE, part):
            new = [[_LONE_SURROGATE]]
        elif _CUTS.fullmatch(part):
            new = [_ids_of_long_word(part)]
        else:
            new = map(_encoding().encode_ordinary, _pieces(part))
        ids += [np.array(part_ids, "int32") for part_ids in new]
    return np.concatenate(ids)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of some size, for a list of ids takes ten times the memory of an array.

    No token lies across a single space with ink on either side: it begins the token behind it.
    """
    start = 0
    while start < len(text):
        found = _SINGLE_SPACE.search(text, start + _PIECE)
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end


def _ids_of_long_word(word: str) -> list[int]:
    """The GPT-2 ids of an ASCII `word`, window by window: much faster than at once, and equal.

    A sequence of tokens is the encoding of its text if each two neighbours are the encoding of
    theirs: the first merge across a border would be the first across it in the two alone as well.
    So what counts is the border between windows; the tokens near a window's end are left for the
    next one, as what follows may change them.
    """
    encode, decode = _encoding().encode_ordinary, _encoding().decode
    ids: list[int] = []
    start = 0
    while start < len(word):
        new = encode(word[start : start + _WINDOW])
        border = ids[-1:] + new[:1]
        if encode(decode(border)) != border:
            return encode(word)
        if start + _WINDOW < len(word):
            del new[-len(new) // 8 :]
        ids += new
        start += len(decode(new))
    return ids


@cache
def _encoding() -> tiktoken.Encoding:
    """GPT-2's encoding from the file in this package: tiktoken's own would be downloaded."""
    path = Path(__file__).with_name("gpt2.tiktoken")
    data = path.read_bytes() if path.is_file() else b""
    if (got := hashlib.sha256(data).hexdigest()) != RANKS_SHA256:
        raise TokenizerError(
            f"{path} must have SHA-256 {RANKS_SHA256}, but got {got}; install keras_lm again."
        )
    lines = (line.split() for line in data.splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    return tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={})
