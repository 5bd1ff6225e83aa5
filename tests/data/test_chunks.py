"""A text cut into chunks: cleaned and tokenized one by one they are what the whole text is."""

import random

import numpy as np
import pytest

from keras_lm.data.cleaning import cleaned
from keras_lm.data.large import work
from keras_lm.data.large.chunks import chunks
from keras_lm.data.tokenizers import CharTokenizer, Gpt2Tokenizer, SeparatedTokenizer
from keras_lm.data.tokenizers.gpt2 import GPT2_SIZE

BITS = [
    *"aZ7.,!?'é日😀-_\u0301\u200b\x1c\x1f\x85\u3000\ufeff",
    *(" ", "  ", "\n", "\n\n", " \n", "\n ", "\t", "'s", "'ll", "'ve ", " the", "e\n", ".\n", "--"),
    *("<|end|>", "\n--\n", "a b", "12 345", "İ", "ΑΣ "),
]
FULL = Gpt2Tokenizer(list(range(GPT2_SIZE)))


def nasty_texts(count, seed):
    choose = random.Random(seed)
    for _ in range(count):
        # Some texts have few kinds of signs, so that long runs of the same occur.
        kinds = choose.sample(BITS, choose.choice([3, 8, len(BITS)]))
        yield "".join(choose.choices(kinds, k=choose.randint(0, 120)))


def in_pieces(text, choose):
    while text:
        size = choose.randint(1, 30)
        yield text[:size]
        text = text[size:]


@pytest.mark.parametrize("separator", ["", "<|end|>", "--", "\n\n", "\n--\n", "a b"])
@pytest.mark.parametrize("cleaning", ["none", "classic"])
def test_tokens_of_chunks_are_those_of_the_whole(cleaning, separator):
    tokenizer = SeparatedTokenizer(FULL, separator) if separator else FULL
    choose = random.Random(5)
    num_cut = 0
    for text in nasty_texts(300, seed=len(separator)):
        size = choose.randint(12, 60)
        parts = list(chunks(in_pieces(text, choose), separator, cleaning == "none", size))
        assert "".join(parts) == text and all(0 < len(part) <= size for part in parts)
        if any(cut_where_it_must(a, b, cleaning) for a, b in zip(parts, parts[1:], strict=False)):
            continue  # there was no good place: see the next test
        num_cut += len(parts) > 1
        each = [work.Chunk(0, part, cleaning, separator).cleaned() for part in parts]
        whole = work.Chunk(0, text, cleaning, separator).cleaned()
        assert "".join(each) == whole
        if cleaning == "none":
            ids = [work.ids_of(tokenizer, part) for part in each]
            assert np.concatenate([[], *ids]).tolist() == work.ids_of(tokenizer, whole).tolist()
    assert num_cut > 60


def cut_where_it_must(before, after, cleaning):
    """Whether a chunk was cut anywhere for want of a good place."""
    if cleaning == "none":
        return not (after[0].isspace() and not before[-1].isspace())
    return after[0] != "\n"


def test_cleaned_chunks_have_the_tokens_of_the_cleaned_whole():
    choose = random.Random(9)
    bits = ["Word ", "é", " — ", ". ", "end.\n", "x\n\n", "7\n  ", "?\n", "it's "]
    for _ in range(100):
        text = "".join(choose.choices(bits, k=80))
        each = [cleaned(part, "classic") for part in chunks([text], "", False, 90)]
        ids = np.concatenate([FULL.rows(part) for part in each])
        assert ids.tolist() == FULL.rows(cleaned(text, "classic")).tolist()


def test_chunks_follow_from_the_text_and_not_from_its_pieces():
    choose = random.Random(7)
    for text in nasty_texts(100, seed=3):
        found = {tuple(chunks(in_pieces(text, choose), "--", True, 20)) for _ in range(3)}
        assert len(found) == 1


@pytest.mark.parametrize("separator", ["", "xx", "xy" * 9])
def test_a_text_without_a_good_place_is_cut_anywhere_but_in_a_separator(separator):
    text = "x" * 30 + separator + "日" * 50 + separator
    parts = list(chunks([text], separator, True, 40))
    assert "".join(parts) == text and max(map(len, parts)) <= 40
    assert sum(part.count(separator) for part in parts if separator) == text.count(
        separator or "\0"
    )


@pytest.mark.parametrize("text", ["", "a", "ab\n", "abcd", "abcde"])
def test_a_short_text_is_one_chunk(text):
    assert list(chunks([text], "", True, 5)) == ([text] if text else [])


def test_rows_of_characters_are_those_that_encode_gives():
    for text in nasty_texts(50, seed=2):
        if text:
            tokenizer = CharTokenizer.from_text(text)
            assert tokenizer.rows(text).tolist() == tokenizer.encode(text)
