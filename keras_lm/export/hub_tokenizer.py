"""Our tokenizers as `tokenizer.json`, which Hugging Face `tokenizers` reads."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

from keras_lm.data.tokenizers import Tokenizer
from keras_lm.data.tokenizers.bpe import byte_of_letter
from keras_lm.data.tokenizers.gpt2 import gpt2_tokens
from keras_lm.settings.checks import ConfigError


def hub_tokenizer(tokenizer: Tokenizer) -> str:
    """The content of `tokenizer.json`.

    Its ids are ours. Of the tokenizer gpt2 it also has the pieces that the training text lacks,
    which get the ids from `vocab_size` on: the model does not know them.

    Args:
        tokenizer: one of char, bpe and gpt2, with a separator or without.

    Raises:
        ConfigError: for any other, and for a separator that would be read as bytes.

    Example:
        >>> from keras_lm.data.tokenizers import CharTokenizer
        >>> import tokenizers
        >>> content = hub_tokenizer(CharTokenizer.from_text("hello"))
        >>> tokenizers.Tokenizer.from_str(content).encode("hole!").ids
        [1, 3, 2, 0]
    """
    from tokenizers import AddedToken, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as HubTokenizer

    data = tokenizer.to_dict()
    has_bytes = data["kind"] in ("bpe", "gpt2")
    vocabulary, merges = _of_bytes(tokenizer, data) if has_bytes else (_of_characters(data), [])
    separator = data.get("separator", "")
    if separator and tokenizer.stop is not None:
        if has_bytes and not separator.isascii() and set(separator) <= set(byte_of_letter()):
            raise ConfigError(
                f"tokenizer.json needs a separator that does not look like bytes, but got "
                f"{separator!r:.60}: train with one of ASCII characters."
            )
        vocabulary[separator] = tokenizer.stop
    made = HubTokenizer(models.BPE(vocabulary, merges))
    if has_bytes:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel() if has_bytes else decoders.Fuse()
    if separator:
        made.add_tokens([AddedToken(separator, normalized=False)])
    return made.to_str()


def _of_characters(data: dict[str, Any]) -> dict[str, int]:
    if data["kind"] != "char":
        raise ConfigError(
            f"tokenizer.json knows the tokenizers char, bpe and gpt2, but got {data['kind']}: "
            "export this model as .keras."
        )
    return {character: row for row, character in enumerate(data["characters"])}


def _of_bytes(
    tokenizer: Tokenizer, data: dict[str, Any]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair encoding, in letters."""
    if data["kind"] == "gpt2":
        tokens, known = gpt2_tokens(), data["ids"]
        unknown = sorted({*range(len(tokens))} - {*known})
        ids = dict(zip(known, range(len(known)), strict=True))
        ids |= {rank: tokenizer.vocab_size + index for index, rank in enumerate(unknown)}
    else:
        count = tokenizer.vocab_size - (tokenizer.stop is not None)
        tokens = [tokenizer.token_bytes(row) for row in range(count)]
        ids = {row: row for row in range(count)}
    letter_of = {byte: letter for letter, byte in byte_of_letter().items()}
    names = ["".join(map(letter_of.__getitem__, token)) for token in tokens]
    last = last_merges_of_gpt2() if data["kind"] == "gpt2" else last_merges(tokens)
    merges = [(names[left], names[right]) for left, right in last]
    return {names[rank]: ids[rank] for rank in range(len(tokens))}, merges


@cache
def last_merges_of_gpt2() -> list[tuple[int, int]]:
    """`last_merges` of GPT-2's tokens, which takes a second."""
    return last_merges(gpt2_tokens())


def last_merges(tokens: Sequence[bytes]) -> list[tuple[int, int]]:
    """Of each token that merging reaches, the two tokens that it is merged of in the end.

    An encoding merges the pair that makes the earliest token, again and again. So the parts of a
    token are always the same two: those that the earlier tokens leave of it.

    Args:
        tokens: in the order in which they are merged; all single bytes are among them.

    Returns:
        Pairs of indices, in the order of what they make.

    Example:
        >>> letters = [bytes([byte]) for byte in range(256)]
        >>> last_merges([*letters, b"ab", b"abab"])
        [(97, 98), (256, 256)]
    """
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = []
    for rank, token in enumerate(tokens):
        parts = [token[index : index + 1] for index in range(len(token))]
        while len(parts) > 2:
            pairs = [ranks.get(left + right, rank) for left, right in pairwise(parts)]
            first = min(range(len(pairs)), key=pairs.__getitem__)
            if pairs[first] >= rank:
                break
            parts[first : first + 2] = [parts[first] + parts[first + 1]]
        if len(parts) == 2:
            merges.append((ranks[parts[0]], ranks[parts[1]]))
    return merges
