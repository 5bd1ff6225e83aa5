"""GPT-2's byte-pair encoding with a compact vocabulary."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from itertools import chain, groupby
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any, NamedTuple, Self

import numpy as np
import tiktoken

from keras_lm.data.tokenizers.base import (
    REPLACEMENT,
    Survey,
    TokenizerError,
    VocabularyTokenizer,
    bad_vocabulary,
    check_not_empty,
    replace_by_rows,
    stored,
)
from keras_lm.data.tokenizers.byte_pairs import LONE_SURROGATE, PATTERN, encode

GPT2_SIZE = 50_256  # `<|endoftext|>` would be one more, but here it is text like any other
RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"


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
    needs_survey = False

    def __init__(self, gpt2_ids: list[int]) -> None:
        super().__init__([_encoding().decode_single_token_bytes(id) for id in gpt2_ids])
        self._gpt2_ids = gpt2_ids
        self._row_of_bytes = {token: row for row, token in enumerate(self._tokens)}

    @classmethod
    def from_text(cls, *texts: str) -> Self:
        """The tokenizer of all tokens in the texts; TokenizerError when there are none."""
        ids = _distinct_ids(texts)
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
    def tokenize(
        cls, documents: Sequence[str], held_out: Sequence[str] = ()
    ) -> tuple[Self, list[np.ndarray]]:
        """The tokenizer of all documents, and the rows of each, (num_tokens,) int32."""
        rows = [_gpt2_ids(text) for text in (*documents, *held_out)]
        if any(LONE_SURROGATE in part for part in rows):  # U+FFFD may have a row of its own
            return super().tokenize(documents, held_out)
        return cls(replace_by_rows(rows, GPT2_SIZE)), rows

    def extended(self, *texts: str) -> Self:
        """The tokenizer with all tokens of the texts, too.

        Example:
            >>> Gpt2Tokenizer.from_text("The man").extended("The woman").vocab_size
            3
        """
        return type(self)(sorted({*self._gpt2_ids} | _distinct_ids(texts)))

    @classmethod
    def for_large_text(cls, survey: Survey) -> Self:
        """The tokenizer of all tokens that there are: row i is GPT-2's id i."""
        return cls(list(range(GPT2_SIZE)))

    def for_further_text(self, survey: Survey) -> Self:
        """The tokenizer of all tokens that there are."""
        return self.for_large_text(survey)

    def rows(self, text: str) -> np.ndarray:
        """The rows of a text of which all is known, (num_tokens,) int32."""
        return _gpt2_ids(text) if self.vocab_size == GPT2_SIZE else super().rows(text)

    def compact(self, occurs: np.ndarray) -> Self:
        """The tokenizer of the tokens that occur.

        Example:
            >>> whole = Gpt2Tokenizer(list(range(GPT2_SIZE)))
            >>> whole.compact(np.arange(GPT2_SIZE) < 3).vocab_size
            3
        """
        return type(self)([id for id, used in zip(self._gpt2_ids, occurs, strict=True) if used])

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
        if gpt2_id == LONE_SURROGATE:
            return [_Part(REPLACEMENT.encode(), None)]
        rest, parts = _encoding().decode_single_token_bytes(gpt2_id), []
        while rest:
            prefixes = (rest[:length] for length in range(len(rest), 0, -1))
            text = next((prefix for prefix in prefixes if prefix in self._row_of_bytes), rest[:1])
            parts.append(_Part(text, self._row_of_bytes.get(text)))
            rest = rest[len(text) :]
        return parts


def gpt2_tokens() -> list[bytes]:
    """The bytes of each GPT-2 token, by its id, which is also the order in which they are made."""
    return [_encoding().decode_single_token_bytes(id) for id in range(GPT2_SIZE)]


def _distinct_ids(texts: Sequence[str]) -> set[int]:
    """The GPT-2 ids that occur in the texts."""
    ids = set(np.unique(np.concatenate([_gpt2_ids(text) for text in texts])).tolist())
    return ids - {LONE_SURROGATE}


def _gpt2_ids(text: str) -> np.ndarray:
    """The GPT-2 ids of `text`, int32; -1 for a lone surrogate."""
    return encode(_encoding(), text)


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
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
