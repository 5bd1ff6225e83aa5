"""Is it new? What of a model's text stands word for word in the text it was trained on."""

import re

WORD = re.compile(r"\w+|[^\w\s]")  # a mark is a word of its own


class TrainingText:
    """A training text, to hold samples against.

    Args:
        text: what was trained on; validation text left out.
    """

    def __init__(self, text: str):
        self.text = text
        self._words = f" {' '.join(WORD.findall(text))} "

    def longest_copy(self, sample: str) -> str:
        """The longest stretch of `sample` that stands in the text, character for character.

        Args:
            sample: any text.

        Returns:
            The stretch, the first among equals; empty when they share no character.
        """
        start = length = 0
        for begin in range(len(sample)):
            # Only a longer one counts, so almost every beginning costs a single search.
            while begin + length < len(sample) and sample[begin : begin + length + 1] in self.text:
                start, length = begin, length + 1
        return sample[start : start + length]

    def novelty(self, sample: str, n: int) -> float | None:
        """How many of the sample's runs of n words stand nowhere in the text.

        Args:
            sample: any text.
            n: words a run, from 1 on; of single words, new ones are mostly misspelt.

        Returns:
            A part of its distinct runs, 0 to 1; None when the sample is shorter than n words.
        """
        words = WORD.findall(sample)
        runs = {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}
        if not runs:
            return None
        return sum(f" {run} " not in self._words for run in runs) / len(runs)
