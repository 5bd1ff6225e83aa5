"""Byte pairs: any text, learned from the training text alone, of the size that was asked for."""

import json
import random
import re
import time

import numpy as np
import pytest
import tiktoken

from keras_lm.data.texts import load_text
from keras_lm.data.tokenizers import BpeTokenizer, TokenizerError, tokenize, tokenizer_from_dict
from keras_lm.data.tokenizers.bpe import (
    BYTES_PER_MERGE,
    LARGEST_AUTO_SIZE,
    LONGEST_TOKEN,
    NUM_BYTES,
    auto_size,
)
from tests.data.test_tokenizers import SEPARATOR, TEXTS

NATURE = "the hat and the cat and the rat sat on the mat\n" * 20


@pytest.mark.parametrize("learned_from", [NATURE, "日本語のテキスト" * 9, "x"])
@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_whatever_it_was_learned_from(learned_from, text):
    tokenizer = BpeTokenizer.from_text(learned_from, bpe_size=300)
    rows = tokenizer.encode(text)
    assert tokenizer.decode(rows) == text and tokenizer.unknown(text) == []
    assert all(0 <= row < tokenizer.vocab_size for row in rows)
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again.encode(text) == rows


def test_a_lone_surrogate_is_dropped_and_told():
    tokenizer = BpeTokenizer.from_text("ab\ud800ab")
    assert tokenizer.decode(tokenizer.encode("a\ud800b\udfff")) == "ab"
    assert tokenizer.unknown("a\ud800b\udfff") == ["\ufffd"]


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_no_characters_no_tokenizer(text):
    with pytest.raises(TokenizerError, match="needs a text, but got one without characters"):
        tokenize("bpe", text)


@pytest.mark.parametrize("size", [1, 256, 257, 300, 1024])
def test_the_vocabulary_has_the_size_that_was_asked_for(size):
    tokenizer = BpeTokenizer.from_text(load_text("alice"), bpe_size=size)
    assert tokenizer.vocab_size == max(size, 256)
    tokens = [tokenizer.token_bytes(row) for row in range(tokenizer.vocab_size)]
    assert len({*tokens}) == len(tokens)
    assert tokens[:256] == [bytes([byte]) for byte in range(256)]


def test_more_entries_make_fewer_and_never_longer_tokens():
    text = load_text("alice")
    lengths = [len(BpeTokenizer.from_text(text, bpe_size=n).encode(text)) for n in (256, 512, 2048)]
    assert lengths[0] == len(text.encode()) > lengths[1] > lengths[2]
    repeated = BpeTokenizer.from_text("ab" * 5000, bpe_size=300)
    sizes = [len(repeated.token_bytes(row)) for row in range(repeated.vocab_size)]
    assert 16 < max(sizes) <= LONGEST_TOKEN


def test_it_is_learned_from_the_training_text_alone_and_always_the_same():
    first, train, validation = tokenize("bpe", NATURE, "zzzz zzzz " * 50, bpe_size=280)
    second, *_ = tokenize("bpe", NATURE, bpe_size=280)
    assert first.to_dict() == second.to_dict()
    assert first.encode("zz") == [ord("z")] * 2
    assert first.decode(train.tolist()) == NATURE
    assert first.decode(validation.tolist()) == "zzzz zzzz " * 50
    assert train.dtype == validation.dtype == np.int32


def test_it_merges_as_tiktoken_does():
    text = load_text("alice")[:30_000]
    tokenizer = BpeTokenizer.from_text(text, bpe_size=700)
    ranks = {tokenizer.token_bytes(row): row for row in range(tokenizer.vocab_size)}
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    plain = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    assert tokenizer.encode(text) == plain.encode_ordinary(text)


@pytest.mark.parametrize("validation", ["", "three", f"three{SEPARATOR}four"])
def test_a_separator_is_one_row_in_both_parts(validation):
    train = f"one{SEPARATOR}two{SEPARATOR}"
    tokenizer, *parts = tokenize("bpe", train, validation, SEPARATOR, bpe_size=256)
    for rows, text in zip(parts, (train, validation), strict=True):
        assert (rows == tokenizer.stop).sum() == text.count(SEPARATOR)
        assert tokenizer.decode(rows.tolist()) == text


@pytest.mark.parametrize("merges", [1, 2, 1_000, LARGEST_AUTO_SIZE - NUM_BYTES])
def test_a_longer_text_gets_more_entries(merges):
    enough = merges * BYTES_PER_MERGE
    assert auto_size(enough) == auto_size(enough + 1) == NUM_BYTES + merges
    assert auto_size(enough - 1) == NUM_BYTES + merges - 1
    assert auto_size(enough + 10**9) == LARGEST_AUTO_SIZE


def test_a_text_of_endless_words_is_learned_in_seconds():
    text = "".join(random.Random(7).choices("acgt", k=300_000))  # 5 seconds and more uncut
    start = time.process_time()
    assert BpeTokenizer.from_text(text, bpe_size=2000).vocab_size == 2000
    assert time.process_time() - start < 4


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ("12", "a list of at most 16,128 merges, but got '12'"),
        ([[0, 1]] * 16_129, "a list of at most 16,128 merges"),
        ([[0]], "merges of two rows, but got [0]"),
        ([[0, True]], "merges of two rows"),
        ([[0, 1.0]], "merges of two rows"),
        ([5], "merges of two rows"),
        ([[-1, 0]], "merges of earlier rows"),
        ([[0, 256]], "merges of earlier rows, but got [0, 256]"),
        ([[0, 10**30]], "merges of earlier rows"),
        ([[0, 1], [0, 1]], "merges that each make another token, but got one twice"),
        ([[0, 0], [0, 256], [256, 0]], "merges that each make another token"),
        ([[0, 0], *([row, row] for row in range(256, 262))], "tokens of at most 64 bytes"),
    ],
)
def test_a_stored_vocabulary_is_checked(merges, message):
    with pytest.raises(TokenizerError, match=re.escape(message)) as caught:
        tokenizer_from_dict({"kind": "bpe", "merges": merges})
    assert len(str(caught.value)) < 250
