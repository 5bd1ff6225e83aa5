"""Tokenizers: round trips, equality with tiktoken, prompts beyond the vocabulary, hostile data."""

import base64
import json
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest
import tiktoken

from keras_lm.data.tokenizers import (
    CharTokenizer,
    Gpt2Tokenizer,
    TokenizerError,
    build_tokenizer,
    byte_pairs,
    tokenize,
    tokenizer_from_dict,
)
from keras_lm.data.tokenizers import gpt2 as module

TEXTS = [
    "a",
    "The man, who hadn't 1,234 horses -- he'd two!",
    "  leading, trailing \n\n\t and   inner  white space \x1c\x1f\x85\u3000 \n",
    "Señor Müller: 日本語, Привет, 😀👩‍👩‍👧, e\u0301, \ufeff, \ufffd, \0",
    "<|endoftext|> is <|endoftext|>text",
    "x" * 3000 + " " * 3000 + "y" + "\n" * 3000,
]
KINDS = ["gpt2", "char"]


@pytest.fixture(scope="module")
def reference() -> tiktoken.Encoding:
    """GPT-2 with the pattern as it was first published, made without the code under test."""
    lines = Path(module.__file__).with_name("gpt2.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in lines}
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def gpt2_ids(tokenizer: Gpt2Tokenizer, text: str) -> list[int]:
    return [tokenizer.to_dict()["ids"][row] for row in tokenizer.encode(text)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_training_text_survives(kind, text):
    tokenizer = build_tokenizer(kind, text)
    ids = tokenizer.encode(text)
    assert set(ids) == set(range(tokenizer.vocab_size))  # every row is used, none is missing
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert tokenizer.unknown(text) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [*TEXTS, "a\ud800b", "\udfff" * 3 + "\ufffd", "\ue000\U0010ffff"])
def test_one_pass_gives_the_same_tokenizer_and_the_same_rows(kind, text):
    expected = build_tokenizer(kind, text)
    tokenizer, rows, nothing = tokenize(kind, text)
    assert len(nothing) == 0 and nothing.dtype == np.int32
    assert tokenizer.to_dict() == expected.to_dict()
    assert rows.dtype == np.int32 and rows.tolist() == expected.encode(text)


@pytest.mark.parametrize("text", TEXTS)
def test_gpt2_equals_tiktoken(reference, text):
    tokenizer = Gpt2Tokenizer.from_text(text)
    ids = reference.encode_ordinary(text)
    assert gpt2_ids(tokenizer, text) == ids
    assert tokenizer.to_dict()["ids"] == sorted(set(ids))


def test_gpt2_equals_tiktoken_on_random_texts(reference):
    choose = random.Random(1)
    runs = [
        "  ",
        "\n",
        "\t",
        "\x1d",
        "\x85",
        "\u2003",
        "a",
        "'s",
        "'",
        "7",
        ".",
        "é",
        "日",
        "\u0301",
    ]
    for _ in range(300):
        sizes = [1, 2, 3, 998, 999, 1000, 1001]
        text = "".join(choose.choice(runs) * choose.choice(sizes) for _ in range(8))
        assert gpt2_ids(Gpt2Tokenizer.from_text(text), text) == reference.encode_ordinary(text)


def test_a_million_white_spaces_before_a_word():
    """tiktoken alone panics here, with an exception that `except Exception` does not catch."""
    text = " " * 1_100_000 + "word"
    tokenizer = Gpt2Tokenizer.from_text(text)
    ids = tokenizer.encode(text)
    assert len(ids) == 1_100_000 and tokenizer.token_bytes(ids[-1]) == b" word"
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("x \n\n", " \n"), ("\u2003", "cé"), ("\x1c", "\n")]
)
@pytest.mark.parametrize("signs", [".", "a", "-'", "'s", "ACGT", "0123456789abcdef+/"])
def test_a_huge_word_equals_tiktoken(reference, before, after, signs):
    text = before + "".join(random.Random(2).choices(signs, k=220_000)) + after
    assert gpt2_ids(Gpt2Tokenizer.from_text(text), text) == reference.encode_ordinary(text)


@pytest.mark.parametrize("signs", ["abcdef", "-'sdt.", "ACGT", "0123456789ab'"])
def test_windows_of_a_word_join_exactly_or_not_at_all(reference, monkeypatch, signs):
    monkeypatch.setattr(byte_pairs, "_WINDOW", 16)  # so small that many borders cut a token
    choose = random.Random(4)
    for _ in range(500):
        word = "".join(choose.choices(signs, k=100))
        assert byte_pairs._ids_of_long_word(reference, word) == reference.encode_ordinary(word)


def test_pieces_of_a_text_join_exactly(reference, monkeypatch):
    monkeypatch.setattr(byte_pairs, "_PIECE", 3)  # so small that every possible border is one
    choose = random.Random(5)
    for _ in range(300):
        text = "".join(choose.choices("ab1é'st. \n\x1c\u2003😀", k=60))
        assert byte_pairs.encode(reference, text).tolist() == reference.encode_ordinary(text)


def test_a_huge_word_is_fast():
    text = "." * 5_000_000  # 4 seconds and more without windows
    start = time.process_time()
    assert Gpt2Tokenizer.from_text(text).vocab_size == 1
    assert time.process_time() - start < 4


def test_gpt2_drops_what_no_known_part_covers():
    tokenizer = Gpt2Tokenizer.from_text("abc")  # one token, whose letters are not tokens of it
    assert tokenizer.vocab_size == 1
    assert tokenizer.encode("abc-ab-abc") == [0, 0]
    assert tokenizer.unknown("abc-ab-abc") == ["-ab-"]


def test_gpt2_takes_the_longest_part_first(reference):
    token = " international"
    assert len(reference.encode_ordinary(token)) == 1
    known = ["i", " in", " inter", "nation", "n", "al"]
    tokenizer = Gpt2Tokenizer(sorted(reference.encode_single_token(piece) for piece in known))
    pieces = [tokenizer.decode([row]) for row in tokenizer.encode(token)]
    assert pieces == [" inter", "nation", "al"]


@pytest.mark.parametrize(
    ("text", "prompt", "kept", "dropped"),
    [
        ("abc", "", "", []),
        ("a", "日a本日", "a", ["日", "本"]),
        ("ab", "a\ud800b\udfffa\ud83d\ude00", "aba", ["\ufffd"]),
        ("a\ufffd", "a\ud800\ufffd", "a\ufffd", ["\ufffd"]),
        ("a", "é\ud800a", "a", ["é", "\ufffd"]),
        ("a", "\0a\x7f", "a", ["\0", "\x7f"]),
    ],
)
def test_char_loses_only_what_is_unknown(text, prompt, kept, dropped):
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(prompt)) == kept
    assert tokenizer.unknown(prompt) == dropped


@pytest.mark.parametrize(
    ("text", "prompt", "kept", "dropped"),
    [
        ("abc", "", "", []),
        ("a", "日a本日", "a", ["日", "本日"]),  # neighbours that are dropped make one piece
        ("a,b", "a\ud800b\udfffa\ud83d\ude00", "aba", ["\ufffd", "\ufffd\ufffd"]),
        ("a\ufffd", "a\ud800,\ufffd", "a\ufffd", ["\ufffd,"]),
        ("a", "é\ud800a", "a", ["é\ufffd"]),
        ("a", "\0a\x7f", "a", ["\0", "\x7f"]),
        ("日", "日 本 é", "日", [" 本 é"]),
    ],
)
def test_gpt2_loses_only_what_is_unknown(text, prompt, kept, dropped):
    tokenizer = Gpt2Tokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(prompt)) == kept
    assert tokenizer.unknown(prompt) == dropped


def test_gpt2_names_each_dropped_piece_once_and_in_order():
    tokenizer = Gpt2Tokenizer.from_text(" ")
    assert tokenizer.unknown("мир Привет мир 日\ud800日") == ["мир", "Привет", "日\ufffd日"]
    assert tokenizer.encode("мир Привет мир 日") == [0, 0, 0]


def test_char_rows_follow_the_code_points():
    tokenizer = CharTokenizer.from_text("hello world\n")
    assert tokenizer.to_dict() == {"kind": "char", "characters": "\n dehlorw"}
    assert tokenizer.encode("hero") == [4, 3, 7, 6]
    assert tokenizer.unknown("Hero, zero!") == ["H", ",", "z", "!"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_lone_surrogate_gets_no_row(kind):
    assert build_tokenizer(kind, "a\ud800a").vocab_size == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", "\ud800"])
def test_no_characters_no_tokenizer(kind, text):
    with pytest.raises(TokenizerError, match="needs a text, but got one without characters"):
        build_tokenizer(kind, text)
    with pytest.raises(TokenizerError, match="needs a text, but got one without characters"):
        tokenize(kind, text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("id", [-1, 3])
def test_an_id_outside_the_vocabulary(kind, id):
    tokenizer = build_tokenizer(kind, "a,b")
    with pytest.raises(TokenizerError, match=f"from 0 to 2, but got {id}; use ids"):
        tokenizer.decode([id])


def test_bytes_that_are_no_utf8_decode_to_replacements():
    tokenizer = Gpt2Tokenizer.from_text("日")
    assert tokenizer.vocab_size == 2
    first, second = tokenizer.encode("日")
    assert tokenizer.decode([first, second]) == "日"
    assert set(tokenizer.decode([second, first])) == {"\ufffd"}


@pytest.mark.parametrize("kind", ["BPE", "", None, ["gpt2"], 5])
def test_unknown_kind(kind):
    with pytest.raises(TokenizerError, match="must be one of char, bpe, gpt2, but got .*"):
        build_tokenizer(kind, "text")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS)
def test_json_round_trip(kind, text):
    tokenizer = build_tokenizer(kind, text)
    stored = tokenizer.to_dict()
    again = tokenizer_from_dict(json.loads(json.dumps(stored)))
    assert type(again) is type(tokenizer) and again.to_dict() == stored
    assert again.encode(text) == tokenizer.encode(text)


NESTED = []
for _ in range(5000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "needs a JSON object, but got NoneType"),
        ([], "needs a JSON object, but got list"),
        ({}, "must be one of char, bpe, gpt2, but got None"),
        ({"kind": "GPT2", "ids": [1]}, "but got 'GPT2'"),
        ({"kind": {}, "ids": [1]}, "but got {}"),
        ({"kind": "gpt2"}, "the keys kind and ids, but got ['kind']"),
        ({"kind": "gpt2", "characters": "a"}, "the keys kind and ids"),
        ({"kind": "gpt2", "ids": [1], "more": 1}, "the keys kind and ids"),
        ({"kind": "char", "ids": [1]}, "the keys kind and characters"),
        ({"kind": "char", "characters": "a", 5: 1}, "the keys kind and characters"),
        ({"kind": "gpt2", "ids": []}, "a list of 1 to 50,256 GPT-2 ids, but got []"),
        ({"kind": "gpt2", "ids": "12"}, "a list of 1 to 50,256 GPT-2 ids, but got '12'"),
        ({"kind": "gpt2", "ids": list(range(50_257))}, "a list of 1 to 50,256 GPT-2 ids"),
        ({"kind": "gpt2", "ids": NESTED}, "ascending GPT-2 ids below 50,256"),
        ({"kind": "gpt2", "ids": [-1]}, "ascending GPT-2 ids below 50,256, but got -1"),
        ({"kind": "gpt2", "ids": [50_256]}, "but got 50256"),
        ({"kind": "gpt2", "ids": [10**30]}, "ascending GPT-2 ids"),
        ({"kind": "gpt2", "ids": [3, 3]}, "but got 3"),
        ({"kind": "gpt2", "ids": [4, 3]}, "but got 3"),
        ({"kind": "gpt2", "ids": [0, True]}, "but got True"),
        ({"kind": "gpt2", "ids": [1.0]}, "but got 1.0"),
        ({"kind": "gpt2", "ids": ["1"]}, "but got '1'"),
        ({"kind": "char", "characters": ""}, "a string of characters, but got ''"),
        ({"kind": "char", "characters": ["a"]}, "a string of characters, but got ['a']"),
        ({"kind": "char", "characters": "aa"}, "ascending characters, but got 'a' after 'a'"),
        ({"kind": "char", "characters": "ba"}, "ascending characters, but got 'a' after 'b'"),
        ({"kind": "char", "characters": "a", "separator": ""}, "a separator of some characters"),
        ({"kind": "char", "characters": "a", "separator": 1}, "a separator of some characters"),
        ({"kind": "char", "characters": "a", "separator": "\udc00"}, "a separator of some"),
        ({"kind": "char", "characters": "ba", "separator": "x"}, "ascending characters"),
        ({"kind": "char", "characters": "a\ud800"}, r"UTF-8 form, but got '\ud800'"),
    ],
)
def test_hostile_data_gets_one_sentence(data, message):
    with pytest.raises(TokenizerError, match=re.escape(message)) as caught:
        tokenizer_from_dict(data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_the_largest_vocabularies_are_accepted():
    assert tokenizer_from_dict({"kind": "gpt2", "ids": list(range(50_256))}).vocab_size == 50_256
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    tokenizer = tokenizer_from_dict({"kind": "char", "characters": everything})
    assert tokenizer.vocab_size == 0x110000 - 0x800


@pytest.mark.parametrize("content", [b"IQ== 0\n", None])
def test_damaged_or_missing_ranks_are_noticed(monkeypatch, tmp_path, content):
    if content:
        (tmp_path / "gpt2.tiktoken").write_bytes(content)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "gpt2.py"))
    with pytest.raises(TokenizerError, match="must have SHA-256 306cd27f.*install keras_lm again"):
        module._encoding.__wrapped__()


SEPARATOR = "<|endoftext|>"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "documents", [["one two", "two\n", " three"], ["", "a", ""], ["a\ud800", "b"]]
)
def test_a_separator_is_one_row_and_its_documents_are_tokenized_alone(kind, documents):
    text = SEPARATOR.join(documents)
    tokenizer, rows, validation = tokenize(kind, text, separator=SEPARATOR)
    assert len(validation) == 0
    stop = tokenizer.vocab_size - 1
    assert tokenizer.stop == stop == tokenizer.inner.vocab_size
    alone = [tokenizer.inner.encode(document) for document in documents]
    ends = np.flatnonzero(rows == stop)
    assert [part.tolist() for part in np.split(rows, ends)] == [
        [stop] * (index > 0) + part for index, part in enumerate(alone)
    ]
    assert rows.tolist() == tokenizer.encode(text) and rows.dtype == np.int32
    assert set(rows.tolist()) == set(range(tokenizer.vocab_size))
    assert tokenizer.decode(rows.tolist()) == text.replace("\ud800", "")
    assert tokenizer.unknown(f"a{SEPARATOR}b日{SEPARATOR}日")[-1] == "日"
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert again.encode(text) == tokenizer.encode(text) and again.stop == stop


@pytest.mark.parametrize("kind", KINDS)
def test_a_separator_that_does_not_occur_is_told(kind):
    with pytest.raises(TokenizerError, match="must occur in the text, but '<|end|>' does not"):
        tokenize(kind, f"a text with {SEPARATOR} in it", separator="<|end|>")
