"""GPT-2's byte-pair encoding with a compact vocabulary."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, NamedTuple, Self

import numpy as np
import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

from keras_lm.data.tokenizers.base import (
    REPLACEMENT,
    SURROGATE,
    TokenizerError,
    VocabularyTokenizer,
    bad_vocabulary,
    check_not_empty,
    replace_by_rows,
    stored,
)

GPT2_SIZE = 50_256  # `<|endoftext|>` would be one more, but here it is text like any other
RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"

_LONE_SURROGATE = -1  # stands for it among GPT-2 ids: tiktoken would make it U+FFFD silently
_SPACE, _INK = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]"  # tiktoken's \s and \S: Python's hold four more
# tiktoken panics at a million white spaces followed by something else. It takes such a run as one
# piece but for the last white space, so a cut before that one leaves every token as it is. Words of
# that size are cut out, too: tiktoken would take longer than a second for a megabyte.
_WINDOW = 100_000
_CUTS = re.compile(
    rf"(?={_SPACE}{_INK})(?<={_SPACE}{{999}})|({SURROGATE}"
    rf"|(?:^|{_SPACE})[!-~]{{{_WINDOW},}}+(?!{_INK}))"
)
_PIECE = 1_000_000  # characters
_SINGLE_SPACE = re.compile(rf"(?<={_INK}) (?={_INK})")


class _Part(NamedTuple):
    """Some bytes of a text, and the row that stands for them; None when no known token does."""

    text: bytes
    row: int | None


class Gpt2Tokenizer(VocabularyTokenizer):
    """GPT-2's byte-pair encoding; row i stands for the i-th smallest GPT-2 id of the vocabulary.

    Args:
        gpt2_ids: the vocabulary, strictly ascending, each from 0 to 50,255.

    Example:
        >>> tokenizer = Gpt2Tokenizer.from_text("The man and the man")
        >>> tokenizer.vocab_size, tokenizer.encode("The man")
        (4, [2, 3])
        >>> tokenizer.unknown("The woman")
        [' woman']
    """

    kind = "gpt2"

    def __init__(self, gpt2_ids: list[int]) -> None:
        super().__init__([_encoding().decode_single_token_bytes(id) for id in gpt2_ids])
        self._gpt2_ids = gpt2_ids
        self._row_of_bytes = {token: row for row, token in enumerate(self._tokens)}

    @classmethod
    def from_text(cls, *texts: str) -> Self:
        """The tokenizer of all tokens in the texts; TokenizerError when there are none."""
        ids = set(np.unique(np.concatenate([_gpt2_ids(text) for text in texts])).tolist())
        ids.discard(_LONE_SURROGATE)
        check_not_empty(ids)
        return cls(sorted(ids))

    @classmethod
    def from_dict(cls, data: dict[Any, Any]) -> Self:
        """The tokenizer that `to_dict` described; TokenizerError for any other data."""
        ids = stored(data, "ids")
        if not isinstance(ids, list) or not 0 < len(ids) <= GPT2_SIZE:
            raise bad_vocabulary(f"a list of 1 to {GPT2_SIZE:,} GPT-2 ids", short_repr(ids))
        for id, before in zip(ids, [-1, *ids], strict=False):
            if type(id) is not int or not before < id < GPT2_SIZE:
                raise bad_vocabulary(f"ascending GPT-2 ids below {GPT2_SIZE:,}", short_repr(id))
        return cls(ids)

    @classmethod
    def tokenize(cls, documents: Sequence[str]) -> tuple[Self, list[np.ndarray]]:
        """The tokenizer of the documents, and the rows of each, (num_tokens,) int32."""
        rows = [_gpt2_ids(text) for text in documents]
        if any(_LONE_SURROGATE in part for part in rows):  # U+FFFD may have a row of its own
            return super().tokenize(documents)
        return cls(replace_by_rows(rows, GPT2_SIZE)), rows

    def encode(self, text: str) -> list[int]:
        """The rows of `text`: tiktoken's tokens, an unknown one as its longest known parts.

        Bytes that no known token covers are dropped; `<|endoftext|>` is text like any other.
        """
        ids = _gpt2_ids(text).tolist()
        rows_of_id = {
            id: [part.row for part in self._parts_of_token(id) if part.row is not None]
            for id in set(ids)
        }
        return list(chain.from_iterable(map(rows_of_id.__getitem__, ids)))

    def unknown(self, text: str) -> list[str]:
        """The distinct pieces of `text` that `encode` drops, in their order of appearance."""
        ids = _gpt2_ids(text).tolist()
        parts_of_id = {id: self._parts_of_token(id) for id in set(ids)}
        parts = chain.from_iterable(map(parts_of_id.__getitem__, ids))
        runs = groupby(parts, lambda part: part.row is None)
        dropped = (b"".join(part.text for part in run) for is_dropped, run in runs if is_dropped)
        return list(dict.fromkeys(piece.decode(errors="replace") for piece in dropped))

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON-able data for `tokenizer_from_dict`."""
        return {"kind": self.kind, "ids": list(self._gpt2_ids)}

    def _parts_of_token(self, gpt2_id: int) -> list[_Part]:
        """A GPT-2 token as known tokens, the longest first, and single bytes where none fits."""
        if gpt2_id == _LONE_SURROGATE:
            return [_Part(REPLACEMENT.encode(), None)]
        rest, parts = _encoding().decode_single_token_bytes(gpt2_id), []
        while rest:
            prefixes = (rest[:length] for length in range(len(rest), 0, -1))
            text = next((prefix for prefix in prefixes if prefix in self._row_of_bytes), rest[:1])
            parts.append(_Part(text, self._row_of_bytes.get(text)))
            rest = rest[len(text) :]
        return parts


def _gpt2_ids(text: str) -> np.ndarray:
    """The GPT-2 ids of `text`, equal to tiktoken's, int32; -1 for a lone surrogate."""
    ids = [np.empty(0, "int32")]
    for part in filter(None, _CUTS.split(text)):
        if re.fullmatch(SURROGATE, part):
            new = [[_LONE_SURROGATE]]
        elif _CUTS.fullmatch(part):
            new = [_ids_of_long_word(part)]
        else:
            new = map(_encoding().encode_ordinary, _pieces(part))
        ids += [np.array(part_ids, "int32") for part_ids in new]
    return np.concatenate(ids)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces: a list of ids takes ten times the memory of an array.

    No token contains a single space between two visible characters except as its first character.
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
    next one, since what follows may change them.
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
