"""The texts to train on: built in, from the catalogue, or from a person's files.

A further text is a file in `data/` and an entry of TEXTS.
"""

import dataclasses
import difflib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from keras_lm.data.records import FIELD, holds_records, texts_of_records
from keras_lm.settings.config import DataConfig
from keras_lm.storage.files import open_plain
from keras_lm.system.paths import DATA_FOLDER, absolute, cache_folder

SEVERAL = "\n"  # between the names of several texts
STDIN = "-"
SAVE_AS_UTF8 = "Save it as UTF-8, or name its encoding, such as --encoding latin-1 or utf-16-le."
DOWNLOAD_TIMEOUT = 10  # seconds without an answer


@dataclass(frozen=True)
class Text:
    """A text known by name.

    Attributes:
        title: what lists call it: "Title, Author".
        files: of a built-in text, in the data folder.
        url: of a catalogue text, which is downloaded when it is first used, and kept.
        sha256: of what the address gives.
    """

    title: str
    files: tuple[str, ...] = ()
    url: str = ""
    sha256: str = ""

    @property
    def paths(self) -> list[Path]:
        """Its files; that of a catalogue text is there once it has been downloaded."""
        if self.url:
            return [cache_folder() / f"{self.sha256[:16]}.txt"]
        return [DATA_FOLDER / file for file in self.files]


TEXTS = {
    "alice": Text("Alice's Adventures in Wonderland, Lewis Carroll", ("alice.txt",)),
    "shakespeare": Text(
        "Hamlet, Macbeth and Julius Caesar, William Shakespeare",
        ("hamlet.txt", "macbeth.txt", "julius-caesar.txt"),
    ),
    "moby-dick": Text("Moby Dick, Herman Melville", ("moby-dick.txt",)),
    "sense-and-sensibility": Text(
        "Sense and Sensibility, Jane Austen", ("sense-and-sensibility.txt",)
    ),
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


def load_text(
    data: str,
    max_text_mb: float = MAX_TEXT_MB,
    encoding: str = "",
    separator: str = "\n",
    text_field: str = "",
) -> str:
    """The text that `data` names; several names, one per line, are joined in their order.

    Args:
        data: a name in TEXTS, else a path (`./alice` for a file named `alice`), a folder or a
            pattern: see `text_files`.
        max_text_mb: the most that is read, in megabytes (1,000,000 bytes).
        encoding: of the files; empty: UTF-8, or UTF-16 with a byte order mark.
        separator: put between several files, and between the records of one.
        text_field: of records, what holds the text; empty: .jsonl files are plain text.

    Raises TextError when there is no such text or it cannot be read, downloaded or used.
    """
    names = data.split(SEVERAL)
    if len(names) > 1 and (size := size_on_disk(data)) < math.inf:  # before the first is read
        check_size(int(size), "The text", max_text_mb)
    how = (max_text_mb, encoding, text_field)
    documents = [text for name in names for text in _documents(name, *how)]
    if len(documents) == 1:
        return documents[0]
    text = separator.join(documents)
    check_size(len(text.encode()), names[0] if len(names) == 1 else "The text", max_text_mb)
    return text


def _documents(name: str, max_text_mb: float, encoding: str, text_field: str) -> list[str]:
    """The texts of one name, file by file, or record by record."""
    if (known := TEXTS.get(name)) is None:
        return _own_documents(name, max_text_mb, encoding, text_field)
    if known.url:
        _download(known)
    return [_unwrap(_read_file(path, max_text_mb)) for path in known.paths]


def _unwrap(text: str) -> str:
    """The book in a text of Project Gutenberg's; any other as it is."""
    book = _BOOK.search(text)
    return book[1] + "\n" if book else text


def _own_documents(name: str, max_text_mb: float, encoding: str, text_field: str) -> list[str]:
    paths = text_files(name)
    if len(paths) > 1:  # before the first is read
        plain = (path for path in paths if not holds_records(path, text_field))
        check_size(sum(path.stat().st_size for path in plain), shorten(name), max_text_mb)
    found: list[str] = []
    for path in paths:
        if holds_records(path, text_field) and path.is_file():
            found += _read_records(path, max_text_mb, text_field)
        else:
            found.append(_read_file(path, max_text_mb, encoding))
    return found


def _read_records(path: Path, max_text_mb: float, text_field: str) -> list[str]:
    found, size = [], 0
    try:
        with open_plain(path) as file:
            for text in texts_of_records(file, path, text_field):
                found.append(text)
                size += len(text.encode())
                check_size(size, str(path), max_text_mb, is_all=False)
    except OSError as error:
        raise TextError(f"{shorten(str(path))} cannot be read: {error.strerror}.") from error
    if not found:
        raise TextError(f"{path} has no record with some text in {text_field!r:.60}: {FIELD}")
    return found


def with_absolute_path(data: DataConfig) -> DataConfig:
    """The same texts, with paths and patterns that mean them from every working folder."""

    def from_anywhere(name: str) -> str:
        path = str(absolute(name))
        is_name = name in {STDIN, *TEXTS}
        return path if not is_name and (os.path.exists(path) or is_pattern(name)) else name

    names = map(from_anywhere, data.data.split(SEVERAL))
    return dataclasses.replace(data, data=SEVERAL.join(names))


def paths_of(name: str) -> list[Path]:
    """The files of one name, some perhaps not there yet; TextError when it can have none."""
    return TEXTS[name].paths if name in TEXTS else text_files(name)


def size_on_disk(data: str) -> float:
    """Bytes that the text named by `data` has at most; infinitely many for a compressed one.

    0 where that is not known before it is read or downloaded.
    """
    names = data.split(SEVERAL)
    try:
        paths = [path for name in names for path in paths_of(name)]
        if any(map(is_packed, paths)):
            return math.inf
        return sum(path.stat().st_size for path in paths)
    except (OSError, ValueError):
        return 0


def _read_file(path: Path, max_text_mb: float, encoding: str = "") -> str:
    advice = f"Name a text file, a folder or one of {', '.join(TEXTS)}"
    shown = shorten(str(path))
    try:
        if path.is_file():
            check_size(path.stat().st_size, str(path), max_text_mb)
            with open_plain(path) as file:  # which may grow, or have a size that is not known
                source = file.read(int(max_text_mb * MEGABYTE) + 1) or b""
            return read_text(source, str(path), max_text_mb, encoding, SAVE_AS_UTF8)
        if path.exists():
            raise TextError(f"{shown} is not an ordinary file. {advice}.")
    except OSError as error:
        raise TextError(f"{shown} cannot be read: {error.strerror}. {advice}.") from error
    close = difflib.get_close_matches(str(path).lower(), TEXTS, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise TextError(f"There is no file {shown}. {advice}{hint}.")


def _download(text: Text) -> None:
    """Fetches a catalogue text into the cache, unless it is there and whole."""
    pooch.get_logger().setLevel("WARNING")
    try:
        (path,) = text.paths
        # Any: pooch's own protocol names the arguments otherwise than its own downloaders.
        downloader: Any = pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT)
        pooch.retrieve(
            text.url,
            known_hash=text.sha256,
            fname=path.name,
            path=path.parent,
            downloader=downloader,
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
