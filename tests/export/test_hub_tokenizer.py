"""tokenizer.json read by Hugging Face's library."""

import json

import pytest
import tokenizers

from keras_lm.data.tokenizers import build_tokenizer, tokenizer_from_dict
from keras_lm.export.hub_tokenizer import hub_tokenizer, last_merges
from keras_lm.export.loader.tokens import Tokens
from keras_lm.settings.checks import ConfigError
from tests.additions.words import WordTokenizer
from tests.export.models import ODD_TEXTS, TEXT


@pytest.mark.parametrize("separator", ["", "<|endoftext|>", "\n\n", "|", "日"])
@pytest.mark.parametrize("kind", ["char", "bpe", "gpt2"])
def test_it_gives_our_ids_and_our_texts(kind, separator):
    # Parts one by one, as words at their ends are others in the whole text.
    parts = [part for text in ODD_TEXTS for part in (text.split(separator or None))]
    data = build_tokenizer(kind, *ODD_TEXTS, *parts).to_dict()
    ours = tokenizer_from_dict(data | ({"separator": separator} if separator else {}))
    theirs = tokenizers.Tokenizer.from_str(hub_tokenizer(ours))
    for text in ODD_TEXTS:
        ids = ours.encode(text)
        assert theirs.encode(text).ids == ids, text
        assert theirs.decode(ids) == ours.decode(ids), text


def test_pieces_of_gpt2_that_the_text_lacks_have_the_ids_that_no_row_has():
    ours = build_tokenizer("gpt2", "The man")
    theirs = tokenizers.Tokenizer.from_str(hub_tokenizer(ours))
    assert theirs.get_vocab_size() == 50_256
    known, *unknown = theirs.encode("The woman").ids
    assert known == 0 and min(unknown) >= ours.vocab_size == 2


@pytest.mark.parametrize("kind", ["bpe", "gpt2"])
def test_a_separator_that_looks_like_bytes_is_refused(kind):
    data = build_tokenizer(kind, TEXT).to_dict() | {"separator": "§"}
    with pytest.raises(ConfigError, match="does not look like bytes, but got '§'"):
        hub_tokenizer(tokenizer_from_dict(data))


@pytest.mark.parametrize("separator", ["|", "\n"])
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_the_loader_knows_the_bytes_of_every_row(kind, separator, tmp_path):
    data = build_tokenizer(kind, TEXT).to_dict() | {"separator": separator}
    ours = tokenizer_from_dict(data)
    config = {"vocab_size": ours.vocab_size, "stop": ours.stop}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text(hub_tokenizer(ours))
    loaded = Tokens(tmp_path)
    for row in range(ours.vocab_size):
        assert loaded.token_bytes(row) == ours.token_bytes(row), row


def test_another_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="char, bpe and gpt2, but got words"):
        hub_tokenizer(WordTokenizer.from_text("a b"))


def test_merges_are_those_that_an_encoding_reaches():
    letters = [bytes([byte]) for byte in range(256)]
    # "abc" is made of "a" and "bc", which comes first; "xyz" is reached by no merge.
    merges = last_merges([*letters, b"bc", b"ab", b"abc", b"xyz"])
    assert merges == [(98, 99), (97, 98), (97, 256)]
