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

from keras_lm.cache import cache_folder
from keras_lm.config import CLEANINGS, DataConfig
from keras_lm.files import absolute
from keras_lm.tokenizer import Tokenizer, tokenize

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
MAX_TEXT_MB = DataConfig.max_text_mb
MEGABYTE = 1_000_000
DOWNLOAD_TIMEOUT = 10  # seconds without an answer

BEGINNING = 2_000  # tokens: where a text's first words are looked for
TITLE_LENGTH, PROMPT_LENGTH = 40, 30  # characters

Ids = TypeVar("Ids", bound=Sequence[int] | np.ndarray)


class TextError(ValueError):
    """A text that cannot be used; the message is one sentence for a person."""


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


def prepare(data: DataConfig, context_length: int) -> Corpus:
    """Reads, cleans, tokenizes and splits a text.

    Args:
        data: which text, and how.
        context_length: tokens a window feeds to the model; each part needs one more.

    Raises ValueError (TextError, TokenizerError) with one sentence when the text cannot be used.
    """
    text = clean(load_text(data.data, data.max_text_mb), data.cleaning)
    tokenizer, ids = tokenize(data.tokenizer, text)
    train, validation = split(ids, data.validation_fraction)
    check_length(train, validation, context_length)
    return Corpus(tokenizer, train, validation)


def load_text(data: str, max_text_mb: float = MAX_TEXT_MB) -> str:
    """The text that `data` names: a built-in one, one of the catalogue, or a file.

    Args:
        data: a name in BUILT_IN or CATALOGUE, else a path (`./alice` for a file named `alice`).
        max_text_mb: the most that is read, in megabytes (1,000,000 bytes).

    Raises TextError when there is no such text or it cannot be read, downloaded or used.
    """
    if data in BUILT_IN:
        paths = [DATA_FOLDER / file for file in BUILT_IN[data].files]
        text = "\n".join(_read_file(path, max_text_mb) for path in paths)
        _check_size(len(text.encode()), data, max_text_mb)
        return text
    if data in CATALOGUE:
        text = _read_file(_download(CATALOGUE[data]), max_text_mb)
        book = _BOOK.search(text)
        return book[1] + "\n" if book else text
    return _read_file(Path(data), max_text_mb)


def size_on_disk(data: str) -> int:
    """How many bytes the text has that `data` names, as far as that is known without reading it."""
    if data in BUILT_IN:
        return sum((DATA_FOLDER / file).stat().st_size for file in BUILT_IN[data].files)
    path = Path(data)
    return path.stat().st_size if data not in CATALOGUE and path.is_file() else 0


def read_text(source: bytes, name: str = "the text", max_text_mb: float = MAX_TEXT_MB) -> str:
    """The text in `source`, UTF-8 or UTF-16 with a byte order mark; every newline becomes "\\n".

    Args:
        source: a file's bytes.
        name: what messages call it.
        max_text_mb: the most that is accepted, in megabytes (1,000,000 bytes).

    Raises TextError when it is too large, too short, binary or in another encoding.
    """
    _check_size(len(source), name, max_text_mb)
    is_utf16 = source.startswith((b"\xff\xfe", b"\xfe\xff")) and _looks_like(source) != "UTF-32"
    if not is_utf16 and b"\0" in source:
        raise TextError(
            f"Expected text, but {name} has a NUL byte at offset {source.index(0)}; "
            f"choose a text file that is not {_looks_like(source)}, or save it as UTF-8."
        )
    try:
        text = source.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        # After a byte order mark, the error counts from behind it.
        offset = error.start + len(source) - len(error.object)
        looks = "a damaged UTF-16 file" if is_utf16 else _looks_like(source[offset:])
        raise TextError(
            f"Expected UTF-8, but {name} has the byte 0x{source[offset]:02x} at offset {offset}, "
            f"which looks like {looks}; save it as UTF-8."
        ) from error
    if "\0" in text:
        raise TextError(
            f"Expected text, but {name} has a NUL character at position {text.index(chr(0))}; "
            "choose a text file that is not binary, or save it as UTF-8."
        )
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) < 2 or text.isspace():
        is_blank = text.isspace()
        came = "is empty" if not text else "is blank" if is_blank else "has one character only"
        raise TextError(f"Expected text, but {name} {came}; choose a longer one.")
    return text


def _looks_like(source: bytes) -> str:
    """What bytes that are no UTF-8 seem to be."""
    start = source[:10_000]
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if 0 in start:
        zeros = [start[parity::2].count(0) for parity in (0, 1)]
        looks_utf16 = max(zeros) > len(start) / 4 > 4 * min(zeros)
        return "UTF-16 without a byte order mark" if looks_utf16 else "binary"
    if re.match(rb"\xed[\xa0-\xbf]", start):
        return "a lone surrogate"
    name = "Windows-1252" if re.search(rb"[\x80-\x9f]", start) else "Latin-1"
    return f"{name} or another old encoding"


def clean(text: str, cleaning: str) -> str:
    """The text after `cleaning`: none as it is; classic small, with marks as words of their own.

    Classic keeps a-z, 0-9, space, newline and .,!? after lower-casing, puts a space before each of
    these marks and makes runs of spaces one. TextError when nothing is left, or for another name.
    """
    if cleaning not in CLEANINGS:
        raise TextError(f"cleaning must be one of {', '.join(CLEANINGS)}, but {cleaning!r} came.")
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
            f"validation_fraction must be from 0 to below 1, but {validation_fraction} came; "
            "0.1 is usual."
        )
    size = max(round(len(ids) * validation_fraction), 1 if validation_fraction else 0)
    cut = max(len(ids) - size, 0)
    return ids[:cut], ids[cut:]


def check_length(train: Sequence[int], validation: Sequence[int], context_length: int) -> None:
    """TextError unless each part has `context_length` + 1 tokens; validation may have none."""
    needed = context_length + 1
    if len(train) < needed or 0 < len(validation) < needed:
        raise TextError(
            f"A context_length of {context_length:,} needs {needed:,} tokens in each part, but the "
            f"text has {len(train):,} for training and {len(validation):,} for validation; choose "
            "a longer text, a smaller context_length or another validation_fraction."
        )


def with_absolute_path(data: DataConfig) -> DataConfig:
    """The same text; a file's path means it in every folder."""
    path = absolute(data.data)
    is_name = data.data in BUILT_IN or data.data in CATALOGUE
    return (
        data if is_name or not os.path.exists(path) else dataclasses.replace(data, data=str(path))
    )


def unigram_entropy(ids: Sequence[int]) -> float:
    """The entropy of the token frequencies in nats a token: the loss of a model without memory.

    TextError when `ids` is empty.
    """
    if not len(ids):
        raise TextError("An entropy needs at least one token, but none came; choose another text.")
    shares = np.unique(ids, return_counts=True)[1] / len(ids)
    return float(-(shares * np.log(shares)).sum()) + 0.0  # never -0.0


def _check_size(size: int, name: str, max_text_mb: float) -> None:
    if size > max_text_mb * MEGABYTE:
        raise TextError(
            f"Expected at most {max_text_mb:g} MB, but {name} has {size:,} bytes; "
            "choose a shorter text or raise max_text_mb."
        )


def _read_file(path: Path, max_text_mb: float) -> str:
    names = [*BUILT_IN, *CATALOGUE]
    mend = f"name a text file or one of {', '.join(names)}"
    shown = repr(str(path) if len(str(path)) <= 80 else f"…{str(path)[-79:]}")
    try:
        if path.is_file():
            _check_size(path.stat().st_size, str(path), max_text_mb)
            with path.open("rb") as file:  # which may grow, or not have told its size
                return read_text(file.read(int(max_text_mb * MEGABYTE) + 1), str(path), max_text_mb)
        if path.exists():
            came = "a folder" if path.is_dir() else "no ordinary file"
            raise TextError(f"Expected a text, but {shown} is {came}; {mend}.")
    except OSError as error:
        raise TextError(f"Expected a text, but {shown} gives: {error.strerror}; {mend}.") from error
    close = difflib.get_close_matches(str(path).lower(), names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise TextError(f"Expected a text, but there is no file {shown}; {mend}{hint}.")


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
            came = f"status {answer.status_code} came"
        elif hasattr(error, "request"):  # one of requests' own errors
            came = "there is no connection"
        elif isinstance(error, OSError):
            came = f"the cache cannot be written ({error.strerror})"
        else:
            came = "other content came"
        raise TextError(
            f"Expected {text.title} from {text.url}, but {came}; "
            "use a built-in text or upload a file."
        ) from error
