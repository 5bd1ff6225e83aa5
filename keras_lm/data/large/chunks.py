"""A text cut where that makes no difference to what is cleaned and tokenized.

A cut stands before white space that follows a visible character: no token of a byte-pair encoding
goes over such a place, nor does any white space before it. Cleaning joins spaces and drops signs,
so the best cut stands before a line's end that follows a sign which every cleaning keeps.
"""

import re
import string
from collections.abc import Iterable, Iterator

from keras_lm.data.tokenizers.byte_pairs import INK, SPACE

CHUNK = 4_000_000  # characters
KEPT = frozenset(string.ascii_letters + string.digits + ".,!?")  # by every cleaning
_CUT = re.compile(rf"(?<={INK})(?={SPACE})")
_NEAR = 10_000  # characters before a chunk's end in which a cut is looked for first


def chunks(
    pieces: Iterable[str], separator: str = "", any_space: bool = True, size: int = CHUNK
) -> Iterator[str]:
    """The text in chunks, a function of the text alone and not of its pieces.

    A text without a place to cut for a whole chunk, such as a word of megabytes, is cut anywhere.

    Args:
        pieces: of the text, of any sizes.
        separator: what is between documents, which is never cut.
        any_space: whether any white space will do where no line ends, which cleaning forbids.
        size: characters of a chunk, at most.

    Example:
        >>> list(chunks(["one\\ntwo", "\\nthree"], size=6))
        ['one', '\\ntwo', '\\nthree']
    """
    around = max(1, len(separator))  # characters after a cut that say whether it is one
    text = ""
    for piece in pieces:
        text += piece
        while len(text) >= size + around:
            cut = _last_cut(text, size, separator, any_space)
            yield text[:cut]
            text = text[cut:]
    while len(text) > size:
        cut = _last_cut(text, size, separator, any_space)
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text


def _last_cut(text: str, size: int, separator: str, any_space: bool) -> int:
    """The last good cut up to `size`; where there is none, one that spares the separator."""
    cut = text.rfind("\n", 1, size + 1)
    while cut > 0:
        if text[cut - 1] in KEPT and not _is_amid(text, cut, separator):
            return cut
        cut = text.rfind("\n", 1, cut)
    if any_space:
        for start in (max(1, size - _NEAR), 1):
            found = [m.start() for m in _CUT.finditer(text, start, size + 1) if m.start() <= size]
            for cut in reversed(found):
                if not _is_amid(text, cut, separator):
                    return cut
    cut = size
    while cut > 1 and _is_amid(text, cut, separator):
        cut -= 1
    return cut


def _is_amid(text: str, cut: int, separator: str) -> bool:
    """Whether a cut would go through a separator."""
    around = len(separator) - 1
    return around > 0 and separator in text[max(0, cut - around) : cut + around]
