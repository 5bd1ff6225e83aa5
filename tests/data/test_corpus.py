"""A text as a run uses it: cleaned, split, long enough, measured."""

import math
import re

import numpy as np
import pytest

from keras_lm.data import corpus
from keras_lm.data.corpus import bits_per_byte, check_length, clean, split
from keras_lm.data.reading import TextError
from keras_lm.data.texts import load_text
from keras_lm.data.tokenizers import tokenize
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.variants import TOKENIZERS


@pytest.mark.parametrize(("separator", "between"), [("<|end|>", "<|end|>"), (r"\n\n", "\n\n")])
def test_a_separator_stands_between_files_and_outlives_cleaning(books, separator, between):
    names = f"{books}/a.txt\n{books}/b.txt\n{books}/c.txt"
    (books / "c.txt").write_text(f"C{between}D!")
    data = DataConfig(names, separator=separator, validation_fraction=0.0, cleaning="classic")
    prepared = corpus.prepare(data, 1)
    assert prepared.tokenizer.decode(prepared.train) == between.join(["aa", "bb", "c", "d !"])
    assert (prepared.train == prepared.tokenizer.stop).sum() == 3
    with pytest.raises(ValueError, match="must occur in the text"):
        corpus.prepare(DataConfig(f"{books}/a.txt", separator=separator), 1)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The Man, who?", "the man , who ?"),
        ("Wait...  what?!", "wait . . . what ? !"),
        ("a  ,  b\n\n .c", "a , b\n\n .c"),
        ("“Señor”—it's 3;\ttab", "seorits 3tab"),
        ("A\nB", "a\nb"),
    ],
)
def test_classic_cleaning(text, cleaned):
    assert clean(text, "classic") == cleaned
    assert clean(cleaned, "classic") == cleaned
    assert clean(text, "none") == text


def test_clean_refuses():
    with pytest.raises(TextError, match="one of none, classic, but got 'strong'"):
        clean("text", "strong")
    with pytest.raises(TextError, match="none of them; set cleaning to none"):
        clean("Привет, мир!", "classic")


@pytest.mark.parametrize("length", [0, 1, 4, 29, 100, 1001])
@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.29, 0.5, 0.999])
def test_split_is_a_cut(length, fraction):
    text = "".join(map(chr, range(length)))
    train, validation = split(text, fraction)
    assert train + validation == text
    assert abs(len(validation) - length * fraction) <= 0.5 or len(validation) == 1
    assert (len(validation) > 0) == (fraction > 0 and length > 0)


def test_split_takes_the_last_tenth():
    assert split("a" * 27 + "bcd", 0.1) == ("a" * 27, "bcd")


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.7, 0.93])
def test_split_never_cuts_a_separator(fraction):
    text = "ab<|end|>c<|end|>" * 7
    parts = split(text, fraction, "<|end|>")
    assert "".join(parts) == text
    assert sum(part.count("<|end|>") for part in parts) == 14
    assert abs(len(parts[1]) - fraction * len(text)) < len("<|end|>") + 1


def test_a_part_between_separators_of_which_cleaning_leaves_nothing_is_no_fault():
    assert clean("\n\nThe Hat\n\n\n\nΩ", "classic", "\n\n") == "\n\nthe hat\n\n\n\n"
    with pytest.raises(TextError, match="has none of them"):
        clean("Ω--Ω", "classic", "--")


@pytest.mark.parametrize("cleaning", ["none", "classic"])
def test_every_tokenizer_is_measured_on_the_same_text(cleaning):
    texts = []
    for tokenizer in TOKENIZERS:
        prepared = corpus.prepare(DataConfig("alice", tokenizer=tokenizer, cleaning=cleaning), 64)
        texts.append(prepared.tokenizer.decode(prepared.validation))
        assert prepared.validation_bytes == len(texts[0].encode())
    assert len({*texts}) == 1


@pytest.mark.parametrize("tokenizer", ["char", "gpt2"])
def test_a_run_of_an_earlier_version_keeps_its_cut_between_tokens(tokenizer):
    config = RunConfig(ModelConfig(), DataConfig("alice", tokenizer=tokenizer), TrainingConfig())
    stored = config.to_dict()
    assert RunConfig.from_dict(stored) == config
    del stored["data"]["cut"]  # as they were written
    earlier = corpus.prepare(RunConfig.from_dict(stored).data, 64)
    ids = np.concatenate([earlier.train, earlier.validation])
    assert earlier.tokenizer.decode(ids.tolist()) == load_text("alice")
    assert len(earlier.validation) == round(len(ids) * 0.1)
    today = corpus.prepare(config.data, 64)
    assert (today.sha256 == earlier.sha256) == (tokenizer == "char")


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, math.nan])
def test_split_refuses(fraction):
    with pytest.raises(TextError, match="from 0 to below 1, but got .*; 0.1 is usual"):
        split("ab", fraction)


@pytest.mark.parametrize("train", [64, 65, 66])
@pytest.mark.parametrize("validation", [0, 1, 64, 65, 66])
def test_check_length_needs_one_token_more_than_the_context(train, validation):
    if train >= 65 and validation in (0, 65, 66):
        check_length(range(train), np.zeros(validation), 64, 0.5)
        return
    message = f"too short: it has {train + validation} tokens. Use at least 1"
    with pytest.raises(TextError, match=message):
        check_length(range(train), np.zeros(validation), 64, 0.5)


def test_a_short_text_is_described_in_characters(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("a" * 65)
    data = DataConfig(data=str(path))
    message = (
        "The text is too short: it has 65 characters. "
        "Use at least 1,300, or a context of at most 5."
    )
    with pytest.raises(TextError, match=message):
        corpus.prepare(data, context_length=128)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("context_length", [2, 3, 10, 64, 1000])
@pytest.mark.parametrize("length", [5, 30, 100, 640])
def test_the_advice_about_a_short_text_works(fraction, context_length, length):
    parts = split("a" * length, fraction)
    if all(len(part) > context_length for part in parts if fraction or part is parts[0]):
        check_length(*parts, context_length, fraction)
        return
    with pytest.raises(TextError, match="Use at least") as caught:
        check_length(*parts, context_length, fraction)
    enough = number_after("Use at least", caught)
    check_length(*split("a" * enough, fraction), context_length, fraction)
    assert length < enough
    shorter = number_after("context of at most", caught)
    if min(len(part) for part in parts if len(part)) > 2:
        check_length(*parts, shorter, fraction)
        with pytest.raises(TextError):
            check_length(*parts, shorter + 1, fraction)
    else:
        assert shorter is None


def number_after(words, caught) -> int | None:
    """The number that follows some words of a message."""
    found = re.search(rf"{words} ([\d,]+)", str(caught.value))
    return int(found[1].replace(",", "")) if found else None


@pytest.mark.parametrize(("size", "shape"), [(19, (19,)), (20, (20,)), (21, (5, 5))])
def test_all_of_the_validation_part_is_measured_unless_it_is_large(monkeypatch, size, shape):
    monkeypatch.setattr(corpus, "MEASURED_TOKENS", 20)
    ids = np.arange(size) % 2
    prepared = corpus.Corpus(tokenize("char", "ab")[0], ids, ids, context_length=4)
    assert prepared.measured.shape == shape
    assert prepared.validation_bits_per_byte(math.log(2)) == pytest.approx(1.0)


def test_bits_per_byte_divide_the_loss_by_the_length_of_each_part_s_tokens(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("é" * 80 + "x" * 20)  # two bytes each, then one
    prepared = corpus.prepare(DataConfig(data=str(path), validation_fraction=0.2), 3)
    assert (prepared.train_bytes, prepared.validation_bytes) == (160, 20)
    assert prepared.bits_per_byte(math.log(2)) == pytest.approx(0.5)
    assert prepared.validation_bits_per_byte(math.log(2)) == pytest.approx(1.0)
    assert bits_per_byte(3.0, 30, 10) == pytest.approx(1 / math.log(2))


@pytest.mark.parametrize(
    ("ids", "entropy"),
    [
        ([7] * 5, 0.0),
        ([0, 1], math.log(2)),
        ([0, 1, 2, 3] * 9, math.log(4)),
        ([5, 5, 5, 9], 2 * math.log(2) - 0.75 * math.log(3)),
    ],
)
def test_unigram_entropy(ids, entropy):
    assert corpus.unigram_entropy(ids) == pytest.approx(entropy)
    assert math.copysign(1, corpus.unigram_entropy(np.array(ids))) == 1


def test_unigram_entropy_of_nothing():
    with pytest.raises(TextError, match="at least one token"):
        corpus.unigram_entropy([])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ήταν ένας άνθρωπος που ζούσε δίπλα στη θάλασσα.\n" * 3, "Ήταν ένας άνθρωπος"),
        (
            "[A Title]\n\nCHAPTER I\n\nThere was once a king with twelve daughters.\n",
            "There was once",
        ),
        ("one two three four\n" * 9, "one two three"),
        ("あ" * 99, "あ" * 30),
    ],
)
def test_a_text_s_first_words_are_its_own(text, words):
    tokenizer, *parts = tokenize("char", text)
    prepared = corpus.Corpus(tokenizer, *parts, context_length=3)
    assert prepared.first_words == words
    assert tokenizer.unknown(words) == []
