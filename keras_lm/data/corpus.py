"""A text as a run uses it: cleaned, tokenized, split, measured."""

import hashlib
import json
import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_lm.data.cleaning import clean
from keras_lm.data.large.streams import is_large
from keras_lm.data.reading import TextError, read_text
from keras_lm.data.texts import SAVE_AS_UTF8, load_text
from keras_lm.data.tokenizers import Tokenized, Tokenizer, tokenize, tokenize_further
from keras_lm.settings.config import DataConfig
from keras_lm.settings.data_config import BETWEEN_TOKENS, MEASURED_TOKENS

BEGINNING = 2_000  # tokens: where a text's first words are looked for
TITLE_LENGTH, PROMPT_LENGTH = 40, 30  # characters
_PIECE = 1_000_000  # tokens


@dataclass(frozen=True)
class Corpus:
    """A text as a run uses it.

    Attributes:
        tokenizer: made from the whole text.
        train: (num_tokens,) int32, what is trained on.
        validation: the text's end, never trained on; perhaps empty.
        context_length: tokens that the model sees at once.
    """

    tokenizer: Tokenizer
    train: np.ndarray
    validation: np.ndarray
    context_length: int

    @cached_property
    def measured(self) -> np.ndarray:
        """The tokens that measure the model: all of the validation part, or windows spread over it.

        Returns:
            (num_tokens,) int32, or (count, context_length + 1) where there are too many.
        """
        if len(self.validation) <= MEASURED_TOKENS:
            return self.validation[:]
        length = self.context_length + 1
        count = max(2, MEASURED_TOKENS // self.context_length)
        starts = np.arange(count) * (len(self.validation) - length) // (count - 1)
        return np.stack([self.validation[start : start + length] for start in starts.tolist()])

    @cached_property
    def unigram_entropy(self) -> float:
        """Nats per token of a guess by frequency alone, in the validation part, if there is one."""
        return unigram_entropy(self.validation if len(self.validation) else self.train)

    @cached_property
    def first_words(self) -> str:
        """The training text's first three words, or where it has no spaces its first letters.

        Titles and chapter numbers are passed over: a line of prose is longer.
        """
        start = self.tokenizer.decode(self.train[:BEGINNING].tolist())
        lines = (line for line in start.splitlines() if len(line) > TITLE_LENGTH)
        prose = next((line for line in lines if line[0].isalpha()), start)
        return " ".join(prose.split()[:3])[:PROMPT_LENGTH].strip()

    @cached_property
    def sha256(self) -> str:
        """Of the tokens, their split and the tokenizer: another one is another task."""
        digest = hashlib.sha256(json.dumps(self.tokenizer.to_dict()).encode())
        for part in (self.train, self.validation):
            digest.update(f"{len(part)}:".encode())
            digest.update(np.ascontiguousarray(part, "<i4").data)
        return digest.hexdigest()

    def bits_per_byte(self, loss: float) -> float:
        """A training loss in nats per token as bits per byte of the text that is trained on."""
        return bits_per_byte(loss, self.train_bytes, len(self.train))

    def validation_bits_per_byte(self, loss: float) -> float:
        """A validation loss in nats per token as bits per byte of what was measured."""
        if self.measured.ndim == 1:
            return bits_per_byte(loss, self.validation_bytes, len(self.validation))
        targets = self.measured[:, 1:]
        return bits_per_byte(loss, self.num_bytes(targets.reshape(-1)), targets.size)

    @cached_property
    def train_bytes(self) -> int:
        """Size of the text that is trained on."""
        return self.num_bytes(self.train)

    @cached_property
    def validation_bytes(self) -> int:
        """Size of the text that validates."""
        return self.num_bytes(self.validation)

    def num_bytes(self, ids: np.ndarray) -> int:
        """Size of the text that `ids`, (num_tokens,), stand for."""
        rows = range(self.tokenizer.vocab_size)
        sizes = np.array([len(self.tokenizer.token_bytes(row)) for row in rows], "int32")
        parts = np.array_split(ids, len(ids) // _PIECE + 1)  # a whole copy would be large
        return sum(int(sizes[part].sum()) for part in parts)


def bits_per_byte(loss: float, num_bytes: int, num_tokens: int) -> float:
    """A loss in nats per token as bits per byte of a text, which compares across tokenizers.

    Example:
        >>> bits_per_byte(math.log(2), num_bytes=10, num_tokens=5)
        0.5
    """
    return loss / math.log(2) / (num_bytes / num_tokens)


def prepare(
    data: DataConfig,
    context_length: int,
    source: bytes | None = None,
    known: Tokenizer | None = None,
) -> Corpus:
    """Reads, cleans, tokenizes and splits a text.

    Args:
        data: which text, and how.
        context_length: tokens that the model sees at once; each part needs one more.
        source: the text's bytes when they have been read from standard input.
        known: the tokenizer of the model that the run goes on with; it is extended. None: the text
            gets one of its own.

    Raises ValueError (TextError, TokenizerError) with one sentence when the text cannot be used.
    """
    text, separator, options = cleaned_text(data, source), data.separator_text, data.own_options()
    fraction = data.validation_fraction

    def tokenized(train: str, validation: str = "") -> Tokenized:
        if known is not None:
            return tokenize_further(known, train, validation, separator)
        return tokenize(data.tokenizer, train, validation, separator, **options)

    if data.cut == BETWEEN_TOKENS:
        tokenizer, ids, _ = tokenized(text)
        cut = len(ids) - validation_size(len(ids), fraction)
        train, validation = ids[:cut], ids[cut:]
    else:
        tokenizer, train, validation = tokenized(*split(text, fraction, separator))
    check_length(train, validation, context_length, fraction, tokenizer.unit)
    return Corpus(tokenizer, train, validation, context_length)


def text_of_model(
    data: DataConfig, context_length: int, tokenizer: Tokenizer
) -> tuple[Corpus | None, str]:
    """The text that a model was made with, in its tokens; None and the reason without it.

    One that is kept in shards, as it is too large for memory, is not read.

    Args:
        data: of the run that made the model.
        context_length: as for `prepare`.
        tokenizer: the model's, perhaps extended since.
    """
    if data.task:
        return None, "a task has no text"
    if is_large(data):
        return None, "its text is kept in shards, and not read again"
    try:
        corpus = prepare(data, context_length, known=tokenizer)
    except ValueError as error:
        return None, f"{error}".rstrip(".")
    if corpus.tokenizer.vocab_size != tokenizer.vocab_size:
        return None, "the text is not the one that the model was trained on"
    return corpus, ""


def cleaned_text(data: DataConfig, source: bytes | None = None) -> str:
    """The text that `data` describes, read and cleaned; arguments and errors as for `prepare`."""
    separator = data.separator_text
    if source is None:
        how = (data.encoding, separator or "\n", data.text_field)
        text = load_text(data.data, data.max_text_mb, *how)
    else:
        limits = (data.max_text_mb, data.encoding, SAVE_AS_UTF8)
        text = read_text(source, "Standard input", *limits)
    return clean(text, data.cleaning, separator)


def split(text: str, validation_fraction: float, separator: str = "") -> tuple[str, str]:
    """The training text and the validation text, the last `validation_fraction`.

    It is cut between characters, so that every tokenizer is measured on the same text; never amid
    a separator. TextError unless the fraction is from 0 to below 1.

    Example:
        >>> split("abcdefghij", 0.2)
        ('abcdefgh', 'ij')
    """
    return split_at(text, len(text) - validation_size(len(text), validation_fraction), separator)


def split_at(text: str, cut: int, separator: str = "") -> tuple[str, str]:
    """The text up to a cut and the rest; amid a separator it is cut before that.

    Example:
        >>> split_at("one--two", 4, "--")
        ('one', '--two')
    """
    if separator:
        around = len(separator) - 1
        amid = text.rfind(separator, max(cut - around, 0), cut + around)
        cut = cut if amid < 0 else amid
    return text[:cut], text[cut:]


def validation_size(length: int, validation_fraction: float) -> int:
    """How much of a text of `length` validates.

    Above 0 it is at least one (when there is one), so that `check_length` finds a text that is too
    short. TextError unless the fraction is from 0 to below 1.
    """
    if not 0 <= validation_fraction < 1:
        raise TextError(
            f"validation_fraction must be from 0 to below 1, but got {validation_fraction}; "
            "0.1 is usual."
        )
    size = max(round(length * validation_fraction), 1 if validation_fraction else 0)
    return min(size, length)


def check_length(
    train: Sized,
    validation: Sized,
    context_length: int,
    validation_fraction: float,
    unit: str = "tokens",
) -> None:
    """TextError unless each part has `context_length` + 1 tokens; validation may have none."""
    needed = context_length + 1
    if len(train) >= needed and (not len(validation) or len(validation) >= needed):
        return
    size = len(train) + len(validation)
    longest = min(len(part) for part in (train, validation) if len(part) or part is train) - 1
    advice = f"Use at least {_enough(needed, validation_fraction):,}"
    if longest >= 2:
        advice += f", or a context of at most {longest:,}"
    raise TextError(f"The text is too short: it has {size:,} {unit}. {advice}.")


def _enough(needed: int, validation_fraction: float) -> int:
    """A length of which each part has `needed` tokens, the next round number."""
    shares = [share for share in (validation_fraction, 1 - validation_fraction) if share]
    least = math.ceil((needed + 1) / min(shares)) if validation_fraction else needed
    step = 10 ** max(0, len(str(least)) - 2)
    return -(-least // step) * step


def unigram_entropy(ids: Sequence[int] | np.ndarray) -> float:
    """The entropy of the token frequencies in nats per token: the loss of a model without memory.

    TextError when `ids` is empty.

    Example:
        >>> round(unigram_entropy([0, 1, 0, 1]), 3)  # ln 2
        0.693
    """
    if not len(ids):
        raise TextError("An entropy needs at least one token, but got none; choose another text.")
    return entropy_of_counts(np.unique(ids, return_counts=True)[1])


def entropy_of_counts(counts: np.ndarray) -> float:
    """`unigram_entropy` of tokens of which it is known how often each occurs, (count,), above 0."""
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0  # never -0.0
