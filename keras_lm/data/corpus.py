"""The texts to train on, built in, downloaded or read; cleaning, splitting, measuring them."""

import dataclasses
import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pooch

from keras_lm.data.reading import (
    MAX_TEXT_MB,
    MEGABYTE,
    TextError,
    check_size,
    is_packed,
    is_pattern,
    read_text,
    shorten,
    text_files,
)
from keras_lm.data.tokenizers import Tokenizer, tokenize
from keras_lm.settings.config import CLEANINGS, DataConfig
from keras_lm.system.paths import DATA_FOLDER, absolute, cache_folder

SEVERAL = "\n"  # between the names of several texts
STDIN = "-"
SAVE_AS_UTF8 = "Save it as UTF-8, or name its encoding, such as --encoding latin-1."
DOWNLOAD_TIMEOUT = 10  # seconds without an answer

BEGINNING = 2_000  # tokens: where a text's first words are looked for
TITLE_LENGTH, PROMPT_LENGTH = 40, 30  # characters

Ids = TypeVar("Ids", bound=Sequence[int] | np.ndarray)


@dataclass(frozen=True)
class Text:
    """A text known by name: `files` of the data folder, or a `url` with its content's `sha256`."""

    title: str
    files: tuple[str, ...] = ()
    url: str = ""
    sha256: str = ""


BUILT_IN = {
    "alice": Text("Alice's Adventures in Wonderland, Lewis Carroll", ("alice.txt",)),
    "shakespeare": Text(
        "Hamlet, Macbeth and Julius Caesar, William Shakespeare",
        ("hamlet.txt", "macbeth.txt", "julius-caesar.txt"),
    ),
    "moby-dick": Text("Moby Dick, Herman Melville", ("moby-dick.txt",)),
    "sense-and-sensibility": Text(
        "Sense and Sensibility, Jane Austen", ("sense-and-sensibility.txt",)
    ),
}

CATALOGUE = {
    "crime-and-punishment": Text(
        "Crime and Punishment (excerpt), Fyodor Dostoevsky",
        url="https://raw.githubusercontent.com/adam-blip/transformer-tfjs/"
        "3df9ad9f66d16f6c3632b559b7a841f299b6c5d0/data/crime-and-punishment_small.txt.js",
        sha256="46f88d88613e0dcdf4d6535c9ee896f8cb758398b3fd97009e38279cac3ca66c",
    ),
    "tiny-shakespeare": Text(
        "Tiny Shakespeare (extracts of the plays)",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/"
        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}

# What lies between Project Gutenberg's two markers, without its credits.
_BOOK = re.compile(
    r"\*\*\* START OF[^\n]*\s*(?:Produced by[^\n]*\s*)?"
    r"(.*?)\s*(?:End of Project Gutenberg[^\n]*\s*)?\*\*\* END OF",
    re.DOTALL,
)


@dataclass(frozen=True)
class Corpus:
    """A text as a run uses it.

    Attributes:
        tokenizer: made from the whole text.
        train: (num_tokens,) int32, what is trained on.
        validation: the text's end, never trained on; maybe empty.
    """

    tokenizer: Tokenizer
    train: np.ndarray
    validation: np.ndarray

    @cached_property
    def unigram_entropy(self) -> float:
        """Nats a token of a guess by frequency alone, in the part that measures the model."""
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
            digest.update(np.ascontiguousarray(part, "<i4"))
        return digest.hexdigest()

    def bits_per_byte(self, loss: float, ids: np.ndarray) -> float:
        """A loss in nats a token of `ids` (train or validation) as bits a byte of their text."""
        size = self.train_bytes if ids is self.train else self._size(ids)
        return loss / math.log(2) / (size / len(ids))

    @cached_property
    def train_bytes(self) -> int:
        """Size of the text that is trained on; asked for at every point of the loss curve."""
        return self._size(self.train)

    def _size(self, ids: np.ndarray) -> int:
        rows = range(self.tokenizer.vocab_size)
        sizes = np.array([len(self.tokenizer.token_bytes(row)) for row in rows], "int32")
        parts = np.array_split(ids, len(ids) // 1_000_000 + 1)  # a whole copy would be large
        return sum(int(sizes[part].sum()) for part in parts)


def prepare(data: DataConfig, context_length: int, source: bytes | None = None) -> Corpus:
    """Reads, cleans, tokenizes and splits a text.

    Args:
        data: which text, and how.
        context_length: tokens a window feeds to the model; each part needs one more.
        source: the text's bytes when they have been read from standard input.

    Raises ValueError (TextError, TokenizerError) with one sentence when the text cannot be used.
    """
    separator = data.separator_text
    tokenizer, ids = tokenize(data.tokenizer, cleaned_text(data, source), separator)
    train, validation = split(ids, data.validation_fraction)
    check_length(train, validation, context_length, data.validation_fraction, tokenizer.unit)
    return Corpus(tokenizer, train, validation)


def cleaned_text(data: DataConfig, source: bytes | None = None) -> str:
    """The text that `data` describes, read and cleaned; arguments and errors as for `prepare`."""
    separator = data.separator_text
    if source is None:
        text = load_text(data.data, data.max_text_mb, data.encoding, separator or "\n")
    else:
        limits = (data.max_text_mb, data.encoding, SAVE_AS_UTF8)
        text = read_text(source, "Standard input", *limits)
    if not separator:
        return clean(text, data.cleaning)
    return separator.join(clean(part, data.cleaning) for part in text.split(separator))


def load_text(
    data: str, max_text_mb: float = MAX_TEXT_MB, encoding: str = "", separator: str = "\n"
) -> str:
    """The text that `data` names; several names, one per line, are joined in their order.

    Args:
        data: a name in BUILT_IN or CATALOGUE, else a path (`./alice` for a file named `alice`), a
            folder or a pattern: see `text_files`.
        max_text_mb: the most that is read, in megabytes (1,000,000 bytes).
        encoding: of the files; empty: UTF-8, or UTF-16 with a byte order mark.
        separator: put between several files.

    Raises TextError when there is no such text or it cannot be read, downloaded or used.
    """
    names = data.split(SEVERAL)
    documents = [text for name in names for text in _documents(name, max_text_mb, encoding)]
    if len(documents) == 1:
        return documents[0]
    text = separator.join(documents)
    check_size(len(text.encode()), names[0] if len(names) == 1 else "The text", max_text_mb)
    return text


def _documents(name: str, max_text_mb: float, encoding: str) -> list[str]:
    """The texts of one name, file by file."""
    if name in CATALOGUE:
        text = _read_file(_download(CATALOGUE[name]), max_text_mb)
        book = _BOOK.search(text)
        return [book[1] + "\n" if book else text]
    if name in BUILT_IN:
        return [_read_file(path, max_text_mb) for path in _paths(name)]
    paths = _paths(name)
    if len(paths) > 1:  # before the first is read
        check_size(sum(path.stat().st_size for path in paths), shorten(name), max_text_mb)
    return [_read_file(path, max_text_mb, encoding) for path in paths]


def with_absolute_path(data: DataConfig) -> DataConfig:
    """The same texts; a path or a pattern means them in every folder."""

    def from_anywhere(name: str) -> str:
        path = str(absolute(name))
        is_name = name in {STDIN, *BUILT_IN, *CATALOGUE}
        return path if not is_name and (os.path.exists(path) or is_pattern(name)) else name

    names = map(from_anywhere, data.data.split(SEVERAL))
    return dataclasses.replace(data, data=SEVERAL.join(names))


def size_on_disk(data: str) -> float:
    """How many bytes the text has that `data` names, at most; of what is packed: infinitely many.

    0 where that is not known before it is read or downloaded.
    """
    try:
        paths = [path for name in data.split(SEVERAL) for path in _paths(name)]
        if any(map(is_packed, paths)):
            return math.inf
        return sum(path.stat().st_size for path in paths)
    except (OSError, ValueError):
        return 0


def _paths(name: str) -> list[Path]:
    """The files of one name, as far as they are there without a download."""
    if name in BUILT_IN:
        return [DATA_FOLDER / file for file in BUILT_IN[name].files]
    return [] if name in CATALOGUE else text_files(name)


def clean(text: str, cleaning: str) -> str:
    """The text after `cleaning`: none as it is; classic small, with marks as words of their own.

    Classic keeps a-z, 0-9, space, newline and .,!? after lower-casing, puts a space before each of
    these marks and makes runs of spaces one. TextError when nothing is left, or for another name.
    """
    if cleaning not in CLEANINGS:
        raise TextError(f"cleaning must be one of {', '.join(CLEANINGS)}, but got {cleaning!r}.")
    if cleaning == "none":
        return text
    kept = re.sub(r"[^a-z0-9.,!? \n]", "", text.lower())
    for mark in ".,!?":
        kept = kept.replace(mark, f" {mark}")
    cleaned = re.sub(" {2,}", " ", kept)
    if not re.search(r"[a-z0-9]", cleaned):
        raise TextError(
            "Classic cleaning keeps a-z and 0-9 only, but the text has none of them; "
            "set cleaning to none."
        )
    return cleaned


def split(ids: Ids, validation_fraction: float) -> tuple[Ids, Ids]:
    """Training ids and validation ids: the last `validation_fraction` (0 to below 1) of `ids`.

    The parts never overlap. At 0 validation is empty; above 0 it has at least one id (when there
    is one), so that `check_length` tells of a text that is too short. TextError outside the range.
    """
    if not 0 <= validation_fraction < 1:
        raise TextError(
            f"validation_fraction must be from 0 to below 1, but got {validation_fraction}; "
            "0.1 is usual."
        )
    size = max(round(len(ids) * validation_fraction), 1 if validation_fraction else 0)
    cut = max(len(ids) - size, 0)
    return ids[:cut], ids[cut:]


def check_length(
    train: Sequence[int],
    validation: Sequence[int],
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


def unigram_entropy(ids: Sequence[int]) -> float:
    """The entropy of the token frequencies in nats a token: the loss of a model without memory.

    TextError when `ids` is empty.
    """
    if not len(ids):
        raise TextError("An entropy needs at least one token, but got none; choose another text.")
    shares = np.unique(ids, return_counts=True)[1] / len(ids)
    return float(-(shares * np.log(shares)).sum()) + 0.0  # never -0.0


def _read_file(path: Path, max_text_mb: float, encoding: str = "") -> str:
    names = [*BUILT_IN, *CATALOGUE]
    advice = f"Name a text file, a folder or one of {', '.join(names)}"
    shown = shorten(str(path))
    try:
        if path.is_file():
            check_size(path.stat().st_size, str(path), max_text_mb)
            with path.open("rb") as file:  # which may grow, or not have told its size
                source = file.read(int(max_text_mb * MEGABYTE) + 1)
            return read_text(source, str(path), max_text_mb, encoding, SAVE_AS_UTF8)
        if path.exists():
            raise TextError(f"{shown} is no ordinary file. {advice}.")
    except OSError as error:
        raise TextError(f"{shown} cannot be read: {error.strerror}. {advice}.") from error
    close = difflib.get_close_matches(str(path).lower(), names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise TextError(f"There is no file {shown}. {advice}{hint}.")


def _download(text: Text) -> Path:
    """The file of a catalogue text, from the cache or, the first time, from its address."""
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                text.url,
                known_hash=text.sha256,
                fname=f"{text.sha256[:16]}.txt",
                path=cache_folder(),
                downloader=pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT),
            )
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a bad hash is the other
        answer = getattr(error, "response", None)
        if answer is not None:
            got = f"got status {answer.status_code}"
        elif hasattr(error, "request"):  # one of requests' own errors
            got = "there is no connection"
        elif isinstance(error, OSError):
            got = f"the cache cannot be written ({error.strerror})"
        else:
            got = "got other content"
        raise TextError(
            f"Expected {text.title} from {text.url}, but {got}; "
            "use a built-in text or upload a file."
        ) from error
