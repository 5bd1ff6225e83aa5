"""What every tokenizer can do, and what those with a vocabulary of their own share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from reprlib import repr as short_repr
from typing import Any, NamedTuple, Self

import numpy as np

SURROGATE = r"[\ud800-\udfff]"
REPLACEMENT = "\ufffd"  # shown in place of a lone surrogate, which has no UTF-8 form
_PIECE = 1_000_000  # ids


class TokenizerError(ValueError):
    """A text, an id or a stored vocabulary that cannot be used; the message is one sentence."""


class Tokenizer(ABC):
    """Text to rows of the embedding, and back.

    Attributes:
        kind: its name among the tokenizers.
        unit: what messages call its tokens.
        stop: the row at which a document ends; None when documents are not separated.
        firsts: the rows with which a text without a prompt may begin; None: all occur in the text.
    """

    kind: str
    unit: str = "tokens"
    stop: int | None = None
    firsts: range | None = None

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many rows the embedding needs: rows go from 0 to `vocab_size` - 1."""

    @abstractmethod
    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes of row `id`, perhaps only part of a character; TokenizerError if none.

        A stream feeds them to an incremental decoder, so that characters appear whole.
        """

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The rows of `text`; what the vocabulary cannot express is dropped."""

    @abstractmethod
    def unknown(self, text: str) -> list[str]:
        """The distinct pieces of `text` that `encode` drops, in their order of appearance."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The tokenizer as JSON-able data for `tokenizer_from_dict`; `kind` is one of its keys."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD. TokenizerError as above."""
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")


class Survey(NamedTuple):
    """What is known of a text that is too large for memory.

    Attributes:
        alphabet: the characters that occur, ascending.
        sample: reads parts of what is trained on, evenly spread; all where that is not much.
        num_bytes: of what is trained on.
    """

    alphabet: str
    sample: Callable[[], Sequence[str]]
    num_bytes: int


class VocabularyTokenizer(Tokenizer):
    """A tokenizer made from a text: it has a row for each token that occurs there, no others.

    A further tokenizer is a class like this one, with `kind`, `from_text`, `from_dict`, `encode`,
    `unknown` and `to_dict` of its own.

    Args:
        tokens: the UTF-8 bytes of each row's token.
    """

    def __init__(self, tokens: list[bytes]) -> None:
        self._tokens = tokens

    @classmethod
    @abstractmethod
    def from_text(cls, *texts: str, **options: Any) -> Self:
        """The tokenizer of all tokens in the texts; TokenizerError when there are none.

        Args:
            *texts: all that it must be able to express.
            **options: the tokenizer's own settings.
        """

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[Any, Any]) -> Self:
        """The tokenizer that `to_dict` described.

        `data` may come from anywhere: TokenizerError unless it is exactly what `to_dict` writes.
        """

    @classmethod
    def tokenize(
        cls, documents: Sequence[str], held_out: Sequence[str] = (), **options: Any
    ) -> tuple[Self, list[np.ndarray]]:
        """`from_text`, and the rows of each document.

        A tokenizer that can do both in one pass over the documents does so.

        Args:
            documents: the training text.
            held_out: what validates; a row for each of its tokens, but nothing is learned from it.
            **options: the tokenizer's own settings.

        Returns:
            The tokenizer, and of each text, those held out last, the rows, (num_tokens,) int32.
        """
        texts = (*documents, *held_out)
        tokenizer = cls.from_text(*texts, **options)
        return tokenizer, [np.array(tokenizer.encode(text), "int32") for text in texts]

    def extended(self, *texts: str) -> Self:
        """The tokenizer with a row for each further token that the texts need.

        One whose tokens can be added to does so; TokenizerError where any other lacks one.
        """
        if lacking := [piece for text in texts for piece in self.unknown(text)]:
            raise TokenizerError(
                f"The text must consist of the model's {len(self._tokens):,} tokens, but got "
                f"{short_repr(lacking[0])}: choose another text or another model."
            )
        return self

    needs_survey = True  # before there is a tokenizer of a text that is too large for memory

    @classmethod
    def for_large_text(cls, survey: Survey, **options: Any) -> Self:
        """A tokenizer of a text that is too large for memory: `compact` gives the one to keep.

        Args:
            survey: of the text; empty where none is needed.
            **options: the tokenizer's own settings.

        Raises TokenizerError where the tokenizer takes no such text.
        """
        raise TokenizerError(
            f"The tokenizer {cls.kind!r} must see the whole text at once, but it is too large for "
            "that: choose a shorter text or another tokenizer."
        )

    def for_further_text(self, survey: Survey) -> Self:
        """`for_large_text` by a tokenizer that there is: it can write what that can, too."""
        return self.extended(survey.alphabet)

    def rows(self, text: str) -> np.ndarray:
        """The rows of a text of which all is known, (num_tokens,) int32."""
        return np.array(self.encode(text), "int32")

    def compact(self, occurs: np.ndarray) -> Self:
        """The tokenizer without tokens that never occur, where it can do without them.

        Args:
            occurs: (vocab_size,) of each row whether it does.
        """
        return self

    @property
    def vocab_size(self) -> int:
        """How many rows the embedding needs: rows go from 0 to `vocab_size` - 1."""
        return len(self._tokens)

    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes of row `id`, perhaps only part of a character; TokenizerError if none."""
        if not 0 <= id < self.vocab_size:
            raise TokenizerError(
                f"A token id must be from 0 to {self.vocab_size - 1}, but got {id}; use ids that "
                "this tokenizer made."
            )
        return self._tokens[id]


def replace_by_rows(ids: Sequence[np.ndarray], num_ids: int) -> list[int]:
    """Replaces each id by its index among those that occur, in place: a copy would be large.

    Args:
        ids: arrays of int32, from 0 to below `num_ids`.
        num_ids: how many there may be.

    Returns:
        The ids that occur, ascending: row i stands for the i-th. TokenizerError if there are none.

    Example:
        >>> ids = np.array([7, 3, 7], "int32")
        >>> replace_by_rows([ids], 10), ids.tolist()
        ([3, 7], [1, 0, 1])
    """
    occurs = np.zeros(num_ids, bool)
    for part in ids:
        occurs[part] = True
    vocabulary = np.flatnonzero(occurs).tolist()
    check_not_empty(vocabulary)
    row_of_id = np.cumsum(occurs, dtype="int32") - 1
    for part in ids:
        for start in range(0, len(part), _PIECE):
            part[start : start + _PIECE] = row_of_id[part[start : start + _PIECE]]
    return vocabulary


def check_not_empty(vocabulary: Any) -> None:
    """TokenizerError when a text gave no tokens."""
    if not vocabulary:
        raise TokenizerError(
            "A tokenizer needs a text, but got one without characters; choose another."
        )


def stored(data: dict[Any, Any], content: str) -> Any:
    """The value of the one key that `data` has beside `kind`; TokenizerError for other keys."""
    if set(data) != {"kind", content}:
        raise bad_vocabulary(f"the keys kind and {content}", short_repr(list(data)))
    return data[content]


def bad_vocabulary(expected: str, got: str) -> TokenizerError:
    """The error for stored data that `to_dict` cannot have written."""
    return TokenizerError(
        f"A stored tokenizer needs {expected}, but got {got}; write it again with to_dict()."
    )
