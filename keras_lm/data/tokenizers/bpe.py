"""Byte-pair encoding with a vocabulary learned from the text (https://arxiv.org/abs/1508.07909)."""

import json
import re
from collections.abc import Iterator, Sequence
from reprlib import repr as short_repr
from typing import Any, Self

import numpy as np
import tiktoken

from keras_lm.data.tokenizers.base import (
    REPLACEMENT,
    SURROGATE,
    Survey,
    VocabularyTokenizer,
    bad_vocabulary,
    check_not_empty,
    stored,
)
from keras_lm.data.tokenizers.byte_pairs import LONE_SURROGATE, PATTERN, encode
from keras_lm.settings.variants import BpeOptions

NUM_BYTES = 256  # the first entries: with them any text can be written
MOST_ENTRIES = BpeOptions.spec("bpe_size").metadata["high"]
LONGEST_TOKEN = 64  # bytes
FEWEST_OCCURRENCES = 2  # of a pair that becomes a token
BYTES_PER_MERGE = 1_000  # of the text, when the size is chosen by its length
LARGEST_AUTO_SIZE = 4_096
_SLICE = 100_000  # characters that are learned from at a time


class BpeTokenizer(VocabularyTokenizer):
    """Bytes, and tokens that join two earlier ones, so that any text can be encoded.

    Args:
        merges: for each token after the bytes the two earlier rows that it joins.

    Example:
        >>> tokenizer = BpeTokenizer.from_text("the hat, the cat " * 9, bpe_size=260)
        >>> tokenizer.vocab_size
        260
        >>> tokenizer.decode(tokenizer.encode("the 日 cat"))
        'the 日 cat'
    """

    kind = "bpe"

    def __init__(self, merges: Sequence[tuple[int, int]]) -> None:
        tokens = [bytes([byte]) for byte in range(NUM_BYTES)]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        super().__init__(tokens)
        self._merges = [*merges]
        letters = range(ord("a"), ord("z") + 1)  # hardly a text has all bytes
        self.firsts = range(NUM_BYTES, len(tokens)) if merges else letters
        ranks = {token: row for row, token in enumerate(tokens)}
        self._encoding = tiktoken.Encoding(
            "bpe", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
        )

    @classmethod
    def from_text(cls, *texts: str, bpe_size: int = 0) -> Self:
        """The tokenizer that `texts` teach; TokenizerError when they have no characters.

        Args:
            *texts: what it is learned from.
            bpe_size: entries of the vocabulary, fewer when the text has no more pairs; at least
                the bytes. 0: by the length of the texts.
        """
        size = sum(len(text.encode(errors="ignore")) for text in texts)
        check_not_empty(size)
        return cls(_learn(texts, bpe_size or auto_size(size)))

    @classmethod
    def from_dict(cls, data: dict[Any, Any]) -> Self:
        """The tokenizer that `to_dict` described; TokenizerError for any other data."""
        merges = stored(data, "merges")
        if not isinstance(merges, list) or len(merges) > MOST_ENTRIES - NUM_BYTES:
            most = MOST_ENTRIES - NUM_BYTES
            raise bad_vocabulary(f"a list of at most {most:,} merges", short_repr(merges))
        sizes = [1] * NUM_BYTES
        for merge in merges:
            if not isinstance(merge, list) or [type(row) for row in merge] != [int, int]:
                raise bad_vocabulary("merges of two rows", short_repr(merge))
            if not 0 <= min(merge) <= max(merge) < len(sizes):
                raise bad_vocabulary("merges of earlier rows", short_repr(merge))
            sizes.append(sizes[merge[0]] + sizes[merge[1]])
            if sizes[-1] > LONGEST_TOKEN:
                raise bad_vocabulary(f"tokens of at most {LONGEST_TOKEN} bytes", str(sizes[-1]))
        tokenizer = cls([(left, right) for left, right in merges])
        if len(set(tokenizer._tokens)) < len(sizes):
            raise bad_vocabulary("merges that each make another token", "one twice")
        return tokenizer

    @classmethod
    def tokenize(
        cls, documents: Sequence[str], held_out: Sequence[str] = (), **options: Any
    ) -> tuple[Self, list[np.ndarray]]:
        """The tokenizer of `documents` alone, and the rows of each text, (num_tokens,) int32."""
        tokenizer = cls.from_text(*documents, **options)
        return tokenizer, [tokenizer.rows(text) for text in (*documents, *held_out)]

    def encode(self, text: str) -> list[int]:
        """The rows of `text`; only a lone surrogate, which has no bytes, is dropped."""
        return self.rows(text).tolist()

    @classmethod
    def for_large_text(cls, survey: Survey, bpe_size: int = 0) -> Self:
        """The tokenizer that a sample of the training text teaches; `bpe_size` as for from_text."""
        return cls(_learn(survey.sample(), bpe_size or auto_size(survey.num_bytes)))

    def rows(self, text: str) -> np.ndarray:
        """The rows of `text`, (num_tokens,) int32."""
        rows = encode(self._encoding, text)
        return rows[rows != LONE_SURROGATE]

    def extended(self, *texts: str) -> Self:
        """The tokenizer itself: bytes can write any text."""
        return self

    def unknown(self, text: str) -> list[str]:
        """What `encode` drops: lone surrogates, shown as U+FFFD."""
        return [REPLACEMENT] if re.search(SURROGATE, text) else []

    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON-able data for `tokenizer_from_dict`."""
        return {"kind": self.kind, "merges": [list(merge) for merge in self._merges]}


def auto_size(num_bytes: int) -> int:
    """The entries of a vocabulary that suit a training text of `num_bytes`.

    Example:
        >>> auto_size(900), auto_size(600_000)
        (256, 856)
    """
    return min(NUM_BYTES + num_bytes // BYTES_PER_MERGE, LARGEST_AUTO_SIZE)


def _learn(texts: Sequence[str], size: int) -> list[tuple[int, int]]:
    """The merges of a vocabulary of at most `size` entries, by Hugging Face's trainer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    no_longer = pre_tokenizers.FixedLength(LONGEST_TOKEN)  # DNA has words of a megabyte
    trained.pre_tokenizer = pre_tokenizers.Sequence([words, no_longer])
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, NUM_BYTES),
        min_frequency=FEWEST_OCCURRENCES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST_TOKEN,
        show_progress=False,
    )
    trained.train_from_iterator(_slices(texts), trainer)
    byte_of = byte_of_letter()
    row_of = {bytes([byte]): byte for byte in range(NUM_BYTES)}
    merges = []
    for pair in json.loads(trained.to_str())["model"]["merges"]:
        left, right = (bytes(map(byte_of.__getitem__, token)) for token in pair)
        if left + right not in row_of:  # another pair may have made the same token
            row_of[left + right] = len(row_of)
            merges.append((row_of[left], row_of[right]))
    return merges


def _slices(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), _SLICE):
            yield text[start : start + _SLICE].encode(errors="ignore").decode()


def byte_of_letter() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for.

    Bytes that are visible as Latin-1 are themselves, the others follow from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(NUM_BYTES) if byte not in visible]
    letters = [*map(chr, visible), *(chr(NUM_BYTES + index) for index in range(len(others)))]
    return dict(zip(letters, [*visible, *others], strict=True))
