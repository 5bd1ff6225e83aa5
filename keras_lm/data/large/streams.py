"""The text that a config names, piece by piece, whatever its size."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from keras_lm.data.reading import (
    EMPTY,
    MEGABYTE,
    PACKING_ERRORS,
    TextError,
    check_is_text,
    check_size,
    damaged,
    is_packed,
    looks_like,
    shorten,
    unpacked,
    utf_16,
)
from keras_lm.data.records import holds_records, texts_of_records
from keras_lm.data.texts import SEVERAL, STDIN, TEXTS, load_text, paths_of
from keras_lm.settings.config import DataConfig
from keras_lm.storage.files import open_plain

PIECE = 1_000_000  # characters, about


def is_large(data: DataConfig) -> bool:
    """Whether the text has more than `shard_from_mb` megabytes, and so is kept in shards.

    Of packed files and of records no more is read than it takes to know. False where the text
    cannot be read.
    """
    least = data.shard_from_mb * MEGABYTE
    names = data.data.split(SEVERAL)
    if data.task or STDIN in names or data.max_text_mb <= data.shard_from_mb:
        return False
    try:
        stream = TextStream(data)
        if not any(is_packed(p) or holds_records(p, data.text_field) for p in stream.paths):
            return stream.size > least
        size = 0
        for piece in stream.pieces():
            size += len(piece.encode())
            if size > least:
                return True
    except (OSError, ValueError):
        pass
    return False


class TextStream:
    """The texts of a config, one after the other, with a separator or a new line between them.

    Args:
        data: which, and how they are read.

    Raises TextError with one sentence when one of them cannot be used.
    """

    def __init__(self, data: DataConfig):
        self._data = data
        self._names = data.data.split(SEVERAL)
        self._file: BinaryIO | None = None
        self._before = 0

    @property
    def paths(self) -> list[Path]:
        """A person's files among them, as they are read; the texts known by name are small."""
        names = (name for name in self._names if name not in TEXTS)
        return [path for name in names for path in paths_of(name)]

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.paths)

    @property
    def read(self) -> int:
        """Bytes of its files that were read by now."""
        return self._before + (self._file.tell() if self._file and not self._file.closed else 0)

    def text_size(self) -> float:
        """Bytes of the text, about; of packed files it is not known, but guessed.

        Raises TextError when that is certainly more than is accepted, or a file is empty.
        """
        known = guessed = 0
        for path in self.paths:
            size = path.stat().st_size
            if not size:
                raise TextError(EMPTY.format(name=path))
            plain = not is_packed(path)
            if plain and not holds_records(path, self._data.text_field):
                known += size
            guessed += size if plain else 4 * size
        check_size(known, "The text", self._data.max_text_mb)
        return min(guessed, self._data.max_text_mb * MEGABYTE)

    def pieces(self) -> Iterator[str]:
        """The text from its beginning, in pieces of about PIECE characters."""
        self._before, joint = 0, self._data.separator_text or "\n"
        waiting, length = [], 0
        for number, document in enumerate(self._documents()):
            for piece in ([joint] if number else []), document:
                for part in piece:
                    waiting.append(part)
                    length += len(part)
                    if length >= PIECE:
                        yield "".join(waiting)
                        waiting, length = [], 0
        yield "".join(waiting)

    def _documents(self) -> Iterator[Iterable[str]]:
        for name in self._names:
            if name in TEXTS:
                yield [load_text(name)]
                continue
            for path in paths_of(name):
                try:
                    yield from self._of_file(path)
                except OSError as error:
                    shown = shorten(str(path))
                    raise TextError(f"{shown} cannot be read: {error.strerror}.") from error

    def _of_file(self, path: Path) -> Iterator[Iterable[str]]:
        with open_plain(path) as file:
            self._file = file
            if holds_records(path, self._data.text_field):
                for text in texts_of_records(file, path, self._data.text_field):
                    yield [text]
            else:
                yield _plain_text(file, str(path), self._data.encoding)
        self._file = None
        self._before += path.stat().st_size


def _plain_text(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """The text of a file, perhaps a packed one, with "\\n" for every newline."""
    content = unpacked(file)
    start = content.peek(10_000)[:10_000]  # pyright: ignore[reportAttributeAccessIssue]: all have it
    check_is_text(start, name)
    try:
        text = io.TextIOWrapper(content, encoding or ("utf-16" if utf_16(start) else "utf-8-sig"))
        text._CHUNK_SIZE = PIECE  # pyright: ignore[reportAttributeAccessIssue]: of CPython, 8 kB
        while piece := text.read(PIECE):
            if "\0" in piece:
                raise TextError(f"{name} is not plain text: it has a NUL character.")
            yield piece.encode(errors="replace").decode() if encoding else piece
    except UnicodeDecodeError as error:
        bad = error.object[error.start :]
        offset = content.tell() - len(bad)
        raise TextError(
            f"{name} is not {encoding or 'UTF-8'} (byte 0x{bad[0]:02x} at offset {offset:,} looks "
            f"like {looks_like(bad)}). Name its encoding, such as --encoding latin-1."
        ) from None
    except LookupError:
        raise TextError(
            f"encoding must be one that Python knows, such as utf-8, but got {encoding!r:.60}."
        ) from None
    except PACKING_ERRORS:
        raise damaged(name) from None
