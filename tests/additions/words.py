"""A tokenizer of words."""

import re
from reprlib import repr as short_repr

from keras_lm.data.tokenizers import VocabularyTokenizer
from keras_lm.data.tokenizers.base import bad_vocabulary, check_not_empty, stored


class WordTokenizer(VocabularyTokenizer):
    """One token per word and per sign between words, in the order of their characters."""

    kind = "words"
    unit = "words"

    def __init__(self, words: list[str]):
        super().__init__([word.encode() for word in words])
        self._words = words
        self._row_of_word = {word: row for row, word in enumerate(words)}

    @classmethod
    def from_text(cls, *texts):
        words = {word for text in texts for word in split_words(text)}
        check_not_empty(words)
        return cls(sorted(words))

    @classmethod
    def from_dict(cls, data):
        words = stored(data, "words")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise bad_vocabulary("a list of words", short_repr(words))
        if not words or words != sorted(set(words)):
            raise bad_vocabulary("ascending words", short_repr(words))
        return cls(words)

    def encode(self, text):
        rows = self._row_of_word
        return [rows[word] for word in split_words(text) if word in rows]

    def unknown(self, text):
        return [word for word in dict.fromkeys(split_words(text)) if word not in self._row_of_word]

    def to_dict(self):
        return {"kind": self.kind, "words": self._words}


def split_words(text: str) -> list[str]:
    """The words and the signs between them: joined, they are the text."""
    return re.findall(r"\w+|\W", text)
