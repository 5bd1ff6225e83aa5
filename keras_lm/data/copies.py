"""What part of a model's text is copied word for word from the text it was trained on.

Both measures number the sample's short stretches and look up where these are in the text; a
longer stretch is a pair of shorter ones. So nothing is approximate, a text of 50 MB takes seconds,
and it is looked through piece by piece in little memory.
"""

import re
from collections.abc import Iterator
from itertools import repeat

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]")  # a mark is a word of its own
_SPACE = re.compile(r"\s")
_PIECE = 1_000_000  # characters
_TABLE_SIZE = 4_000_000


class TrainingText:
    """A training text, to compare samples with.

    Args:
        text: what was trained on; validation text left out.

    Example:
        >>> text = TrainingText("the cat sat on the mat")
        >>> text.longest_copy("a cat sat down"), text.novelty("the cat ran", n=2)
        (' cat sat ', 0.5)
    """

    def __init__(self, text: str):
        self.text = text

    def longest_copy(self, sample: str) -> str:
        """The longest stretch of `sample` that is in the text, character for character.

        Args:
            sample: any text.

        Returns:
            The stretch, the first among equals; empty when they share no character.
        """
        characters, start, length = _code_points(sample), 0, 0
        for begin in range(0, len(self.text), _PIECE):
            # A stretch that begins in this piece may end in the next one.
            piece = self.text[begin : begin + _PIECE + len(sample)]
            found, found_length = _longest_stretch(characters, _code_points(piece))
            if (found_length, -found) > (length, -start):
                start, length = found, found_length
        return sample[start : start + length]

    def novelty(self, sample: str, n: int) -> float | None:
        """How many of the sample's runs of n words are nowhere in the text.

        Args:
            sample: any text.
            n: words per run, from 1 on; of single words, new ones are mostly misspelt.

        Returns:
            A part of its distinct runs, 0 to 1; None when the sample is shorter than n words.
        """
        words = WORD.findall(sample)
        if len(words) < n:
            return None
        number_of = {word: number for number, word in enumerate(dict.fromkeys(words))}
        numbers = np.array([number_of[word] for word in words])
        known: set[int] = set()
        before = np.empty(0, int)
        for piece in _pieces(self.text):
            found = WORD.findall(piece)
            text = np.fromiter(map(number_of.get, found, repeat(-1)), int, len(found))
            text = np.concatenate([before, text])
            before = text[max(0, len(text) - n + 1) :]
            runs = _Stretches(numbers, text).of_length(n)
            known.update(runs.text[runs.text >= 0].tolist())
        num_runs = len(set(runs.sample.tolist()))
        return (num_runs - len(known)) / num_runs


class _Stretches:
    """All stretches of one length in a sample, numbered, and where they are in a text.

    Args:
        sample: of the stretch at each position its number, from 0 on.
        text: the same for the text; -1 where none of the sample's stretches is.
        length: of a stretch.
    """

    def __init__(self, sample: np.ndarray, text: np.ndarray, length: int = 1):
        self.sample, self.text, self.length = sample, text, length

    @property
    def found(self) -> bool:
        """Whether any of them is in the text."""
        return bool(len(self.sample)) and bool((self.text >= 0).any())

    def longer(self, length: int) -> "_Stretches":
        """Those of a `length` up to twice as long: each a pair of overlapping shorter ones."""
        shift = length - self.length
        radix = int(self.sample.max(initial=0)) + 1
        pairs = self.sample[: max(0, len(self.sample) - shift)] * radix + self.sample[shift:]
        pairs, sample = np.unique(pairs, return_inverse=True)
        text = np.full(max(0, len(self.text) - shift), -1)
        first, second = self.text[: len(text)], self.text[shift:]
        known = np.flatnonzero((first >= 0) & (second >= 0))
        text[known] = _index(pairs, first[known] * radix + second[known])
        return _Stretches(sample, text, length)

    def of_length(self, length: int) -> "_Stretches":
        """Those of any `length` from this one on."""
        stretches = self
        while stretches.length < length:
            stretches = stretches.longer(min(length, 2 * stretches.length))
        return stretches


def _longest_stretch(sample: np.ndarray, text: np.ndarray) -> tuple[int, int]:
    """Where the longest stretch begins in the sample that is in the text, too, and its length."""
    characters, sample = np.unique(sample, return_inverse=True)
    stretches = _Stretches(sample, _index(characters, text))
    if not stretches.found:
        return 0, 0
    while (twice := stretches.longer(2 * stretches.length)).found:
        stretches = twice
    longest, too_long = stretches, 2 * stretches.length
    while too_long - longest.length > 1:
        middle = stretches.longer((longest.length + too_long) // 2)
        if middle.found:
            longest = middle
        else:
            too_long = middle.length
    is_found = np.isin(longest.sample, longest.text)
    return int(np.argmax(is_found)), longest.length


def _index(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The index in the ascending `values` of each one `wanted`, -1 where it is not among them."""
    if not len(values):
        return np.full(len(wanted), -1)
    if values[-1] < _TABLE_SIZE:  # several times as fast
        table = np.full(values[-1] + 2, -1)
        table[values] = np.arange(len(values))
        return table[np.minimum(wanted, values[-1] + 1)]
    index = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[index] == wanted, index, -1)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<i4").astype(int)


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that cut no word."""
    start = 0
    while start < len(text):
        space = _SPACE.search(text, start + _PIECE)
        end = space.start() if space else len(text)
        yield text[start:end]
        start = end
