"""Text to the ids of a byte-pair encoding: tiktoken's, also where tiktoken is slow or panics."""

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str

from keras_lm.data.tokenizers.base import SURROGATE

PATTERN = r50k_pat_str  # GPT-2's: cuts a text into words, each with the space before it
LONE_SURROGATE = -1  # stands for it among the ids: tiktoken would make it U+FFFD silently
SPACE, INK = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]"  # tiktoken's \s and \S: Python's hold four more
# tiktoken panics at a million white spaces followed by something else. It takes such a run as one
# piece but for the last white space, so a cut before that one leaves every token as it is. Words of
# that size are cut out, too: tiktoken would take longer than a second for a megabyte.
_WINDOW = 100_000
_LONG_SPACE = 999  # characters: shorter runs are left to tiktoken
_CUTS = re.compile(
    rf"(?={SPACE}{INK})(?<={SPACE}{{{_LONG_SPACE}}})|({SURROGATE}"
    rf"|(?:^|{SPACE})[!-~]{{{_WINDOW},}}+(?!{INK}))"
)
_PIECE = 1_000_000  # characters
_SINGLE_SPACE = re.compile(rf"(?<={INK}) (?={INK})")


def encode(encoding: tiktoken.Encoding, text: str) -> np.ndarray:
    """The ids of `text`, equal to tiktoken's, (num_tokens,) int32; -1 for a lone surrogate.

    Args:
        encoding: with PATTERN and no special tokens.
        text: of any length.

    Example:
        >>> letters = tiktoken.Encoding("letters", pat_str=PATTERN, special_tokens={},
        ...     mergeable_ranks={bytes([byte]): byte for byte in range(256)} | {b"ab": 256})
        >>> encode(letters, "abba").tolist()
        [256, 98, 97]
    """
    ids = [np.empty(0, "int32")]
    # To look for cuts takes as long as two thirds of the encoding.
    for part in [text] if _has_no_cuts(text) else filter(None, _CUTS.split(text)):
        if re.fullmatch(SURROGATE, part):
            new = [[LONE_SURROGATE]]
        elif _CUTS.fullmatch(part):
            new = [_ids_of_long_word(encoding, part)]
        else:
            new = map(encoding.encode_ordinary, pieces(part))
        ids += [np.array(part_ids, "int32") for part_ids in new]
    return np.concatenate(ids)


def _has_no_cuts(text: str) -> bool:
    """Whether it is soon seen that `_CUTS` finds nothing in the text."""
    start = 0
    while start + _WINDOW <= len(text):  # with a space in each window no word is as long as one
        start = text.rfind(" ", start, start + _WINDOW) + 1
        if not start:
            return False
    step = _LONG_SPACE // 2  # of a long run of white spaces, two samples are neighbours
    samples = [character.isspace() for character in text[::step]]
    near = (step * index for index, pair in enumerate(pairwise(samples)) if all(pair))
    if any(text[start : start + step].isspace() for start in near):
        return False
    return not re.search(SURROGATE, text)


def pieces(text: str) -> Iterator[str]:
    """The text in pieces: a list of ids takes ten times the memory of an array.

    No token contains a single space between two visible characters except as its first character.
    """
    start = 0
    while start < len(text):
        found = _SINGLE_SPACE.search(text, start + _PIECE)
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end


def _ids_of_long_word(encoding: tiktoken.Encoding, word: str) -> list[int]:
    """The ids of an ASCII `word`, window by window: much faster than at once, and equal.

    A sequence of tokens is the encoding of its text if each two neighbours are the encoding of
    theirs: the first merge across a border would be the first across it in the two alone as well.
    So what counts is the border between windows; the tokens near a window's end are left for the
    next one, since what follows may change them.
    """
    encode, decode = encoding.encode_ordinary, encoding.decode
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
