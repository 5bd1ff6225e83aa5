"""Files to text: which files a name means, their encoding, what is not text."""

import glob
import gzip
import io
import itertools
import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from keras_lm.storage.files import open_plain

MEGABYTE = 1_000_000
MAX_TEXT_MB = 50.0
SUFFIXES = (".txt", ".text", ".md", ".txt.gz", ".text.gz", ".md.gz")  # what of a folder is read
FURTHER_SUFFIXES = (".txt.zst", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")  # without these
GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"  # how such files begin
PACKING_ERRORS = (OSError, EOFError, zlib.error)
MOST_ENTRIES = 10_000  # of a folder or a pattern: links make some endless

EMPTY = "{name} is empty. Choose one with some text."

Entry = TypeVar("Entry", str, Path)

# How files begin that are not plain text, and what they are called.
_SIGNATURES = {
    rb"%PDF-": "a PDF",
    rb"PK\x03\x04": "a zip archive, as docx, odt and epub documents are",
    rb"\xd0\xcf\x11\xe0": "an old Office document",
    rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP": "an image",
    rb"\x1f\x8b|BZh\dPI|BZh\d1AY|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd": "a compressed file",
    rb"\x7fELF|MZ\x90": "a program",
}


class TextError(ValueError):
    """A text that cannot be used; the message is for a person."""


def text_files(name: str) -> list[Path]:
    """The files that `name` means, sorted: itself, those of a folder, those of a pattern.

    Of a folder the files that end in SUFFIXES are meant, or where it has none those that end in
    FURTHER_SUFFIXES, those of its folders included, hidden ones not. TextError when a folder or a
    pattern has none or too many; whether a single file exists is not checked.
    """
    path = Path(name)
    if name and os.path.isdir(name):  # which is false where Path.is_dir raises
        below = [file.relative_to(path) for file in _few(path.rglob("*"), name)]
        seen = [f for f in below if not any(part.startswith(".") for part in f.parts)]
        kinds = (SUFFIXES, FURTHER_SUFFIXES)
        texts = ([path / f for f in seen if f.name.lower().endswith(kind)] for kind in kinds)
        found = next(filter(None, texts), [])
        expected = f"a folder with {', '.join(SUFFIXES[:3])} files, or a pattern such as '*.py'"
    elif is_pattern(name) and not os.path.exists(name):
        found = [Path(file) for file in _few(glob.iglob(name, recursive=True), name)]
        expected = "a pattern that some files match"
    else:
        return [path]
    if not (files := sorted(file for file in found if os.path.isfile(file))):
        raise TextError(f"{shorten(name)} has no text files. Name {expected}.")
    return files


def _few(found: Iterable[Entry], name: str) -> list[Entry]:
    """What a folder or a pattern holds; TextError, and no search without end, where it is much."""
    entries = list(itertools.islice(found, MOST_ENTRIES + 1))
    if len(entries) > MOST_ENTRIES:
        raise TextError(
            f"{shorten(name)} must match at most {MOST_ENTRIES:,} files and folders, but matches "
            "more. Name a smaller folder or a narrower pattern."
        )
    return entries


def is_pattern(name: str) -> bool:
    """Whether the name may mean several files.

    Example:
        >>> is_pattern("books/*.txt"), is_pattern("alice.txt")
        (True, False)
    """
    return bool(set("*?[") & set(name))


def shorten(name: str) -> str:
    """A name in quotes, of a long one the end.

    Example:
        >>> shorten("alice.txt")
        "'alice.txt'"
    """
    return repr(name if len(name) <= 80 else f"…{name[-79:]}")


def is_packed(path: Path) -> bool:
    """Whether a text is packed in it, whatever its name; OSError when it cannot be read."""
    with open_plain(path) as file:
        return file.read(4).startswith((GZIP, ZSTD, PARQUET))


def unpacked(file: BinaryIO) -> BinaryIO:
    """What a file holds, from its beginning; unpacked where it begins as gzip's and zstd's do.

    Reading on raises one of PACKING_ERRORS where it is damaged.

    Example:
        >>> unpacked(io.BytesIO(gzip.compress(b"a text"))).read()
        b'a text'
    """
    start = file.read(len(ZSTD))
    file.seek(0)
    if start.startswith(GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if start == ZSTD:
        import pyarrow  # takes a moment

        stream = pyarrow.CompressedInputStream(file, "zstd")
        return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, stream)))
    return file


def damaged(name: str) -> TextError:
    """The error of a packed file that cannot be unpacked."""
    return TextError(f"{name} is a damaged packed file. Copy it again, or unpack it.")


def check_size(size: int, name: str, max_text_mb: float, is_all: bool = True) -> None:
    """TextError when `size` bytes, all or at least, are more than `max_text_mb` megabytes."""
    if size > max_text_mb * MEGABYTE:
        at_least = "" if is_all else "at least "
        raise TextError(
            f"{name} has {at_least}{size:,} bytes, but at most {max_text_mb:g} MB are accepted. "
            "Choose a shorter text or raise max_text_mb."
        )


def read_text(
    source: bytes,
    name: str = "This file",
    max_text_mb: float = MAX_TEXT_MB,
    encoding: str = "",
    advice: str = "Save it as UTF-8 and upload it again.",
) -> str:
    """The text in a file's bytes, unpacked if gzip or zstd packed them; newlines become "\\n".

    Args:
        source: the bytes.
        name: what messages call them.
        max_text_mb: the most that is accepted, in megabytes (1,000,000 bytes).
        encoding: theirs; empty: UTF-8, or UTF-16 with a byte order mark.
        advice: the sentence that says what to do about another encoding.

    Raises TextError when it is too large, too short, in another encoding or not plain text.

    Example:
        >>> read_text(b"one line\\r\\nand another")
        'one line\\nand another'
    """
    if source.startswith((GZIP, ZSTD)):
        source = _unpack(source, name, max_text_mb)
    is_all = len(source) != int(max_text_mb * MEGABYTE) + 1  # of what is too much no more is read
    check_size(len(source), name, max_text_mb, is_all)
    check_is_text(source, name)
    text = _decode_as(source, name, encoding) if encoding else _decode(source, name, advice)
    if "\0" in text:
        raise TextError(
            f"{name} is not plain text: it has a NUL character at position {text.index(chr(0)):,}. "
            "Save its text as a .txt file."
        )
    text = plain_newlines(text)
    if not text:
        raise TextError(EMPTY.format(name=name))
    if text.isspace():
        raise TextError(f"{name} has only spaces and line ends. Choose one with some text.")
    if len(text) < 2:
        raise TextError(f"{name} has one character only. Choose one with more text.")
    return text


def check_is_text(start: bytes, name: str) -> None:
    """TextError when a file begins as those do that are not plain text."""
    for signature, kind in _SIGNATURES.items():
        if re.match(signature, start, re.DOTALL):
            raise TextError(f"{name} is {kind}, not plain text. Save its text as a .txt file.")


def plain_newlines(text: str) -> str:
    """The text with "\\n" for every newline."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _unpack(source: bytes, name: str, max_text_mb: float) -> bytes:
    try:
        with unpacked(io.BytesIO(source)) as file:
            return file.read(int(max_text_mb * MEGABYTE) + 1)
    except PACKING_ERRORS:
        kind = "gzip" if source.startswith(GZIP) else "zstd"
        raise TextError(f"{name} is a damaged {kind} file. Copy it again, or unpack it.") from None


def _decode_as(source: bytes, name: str, encoding: str) -> str:
    try:
        text = source.decode(encoding)
    except UnicodeError as error:
        offset = f" at offset {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
        raise TextError(f"{name} is not {encoding}{offset}. Name another encoding.") from None
    except (LookupError, ValueError):
        raise TextError(
            f"encoding must be one that Python knows, such as utf-8 or latin-1, but got "
            f"{encoding!r:.60}."
        ) from None
    return text.removeprefix("\ufeff").encode(errors="replace").decode()  # no lone surrogates


def _decode(source: bytes, name: str, advice: str) -> str:
    """The text of bytes in UTF-8, or in UTF-16 with a byte order mark."""
    is_utf16 = utf_16(source)
    if not is_utf16 and b"\0" in source:
        looks, offset = looks_like(source), source.index(0)
        if looks.startswith("UTF"):
            raise TextError(f"{name} is {looks}, not UTF-8. {advice}")
        raise TextError(
            f"{name} is not plain text: it has a NUL byte at offset {offset:,}. "
            "Save its text as a .txt file."
        )
    try:
        return source.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        # After a byte order mark, the error counts from behind it.
        offset = error.start + len(source) - len(error.object)
        if not is_utf16 and _is_cut(source, offset, error):
            rest = len(source) - offset
            last = "byte" if rest == 1 else f"{rest} bytes"
            raise TextError(
                f"{name} is cut within its last character (byte 0x{source[offset]:02x} at offset "
                f"{offset:,}). Copy it again, or delete its last {last}."
            ) from None
        looks = "a damaged UTF-16 file" if is_utf16 else looks_like(source[offset:])
        raise TextError(
            f"{name} is not UTF-8 (byte 0x{source[offset]:02x} at offset {offset:,} looks like "
            f"{looks}). {advice}"
        ) from None


def utf_16(start: bytes) -> bool:
    """Whether a text begins with UTF-16's byte order mark."""
    return start.startswith((b"\xff\xfe", b"\xfe\xff")) and looks_like(start) != "UTF-32"


def _is_cut(source: bytes, offset: int, error: UnicodeDecodeError) -> bool:
    """Whether the bytes end within a character: so might a Latin-1 text whose last one has a mark.

    It is that if all before is ASCII and a single byte is left which a word may end in there.
    """
    if error.reason != "unexpected end of data":
        return False
    is_ascii_before = source[:offset].removeprefix(b"\xef\xbb\xbf").isascii()
    return not is_ascii_before or len(source) - offset > 1 or source[offset] < 0xE0


def looks_like(source: bytes) -> str:
    """What bytes that are not UTF-8 seem to be."""
    start = source[:10_000]
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if 0 in start:
        zeros = [start[parity::2].count(0) for parity in (0, 1)]
        looks_utf16 = max(zeros) > len(start) / 4 > 4 * min(zeros)
        return "UTF-16 without a byte order mark" if looks_utf16 else "binary"
    if re.match(rb"\xed[\xa0-\xbf]", start):
        return "a lone surrogate"
    return "Windows-1252" if re.search(rb"[\x80-\x9f]", start) else "Latin-1"
