"""Files of records, of which one field holds the text: .jsonl, perhaps packed, and .parquet."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from keras_lm.data.reading import (
    PACKING_ERRORS,
    TextError,
    damaged,
    plain_newlines,
    shorten,
    unpacked,
)
from keras_lm.data.tokenizers.base import SURROGATE

PARQUET = ".parquet"
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", PARQUET)
FIELD = "name the one with the text by --text-field."
_ROWS, _BUFFER = 256, 2**20  # rows and bytes of a .parquet file that are in memory at once
_SHOWN_FIELDS = 10


def holds_records(path: Path, field: str) -> bool:
    """Whether the file is read record by record; without a field all but .parquet is plain text.

    Example:
        >>> holds_records(Path("a.jsonl.gz"), "text"), holds_records(Path("a.txt"), "text")
        (True, False)
    """
    name = path.name.lower()
    return name.endswith(SUFFIXES) and bool(field or name.endswith(PARQUET))


def texts_of_records(file: BinaryIO, path: Path, field: str) -> Iterator[str]:
    """The texts in a file's records, in their order; empty ones are left out.

    Args:
        file: its content.
        path: what it is called, which says of which kind it is.
        field: the name of what holds the text.

    Raises TextError with one sentence when it is damaged or a record has no such text.

    Example:
        >>> lines = io.BytesIO(b'{"text": "one"}\\n{"text": "two"}\\n')
        >>> list(texts_of_records(lines, Path("two.jsonl"), "text"))
        ['one', 'two']
    """
    is_parquet = path.name.lower().endswith(PARQUET)
    read = _parquet if is_parquet else _json_lines
    for text in read(file, str(path), field):
        if "\0" in text:
            raise TextError(f"{path} is not plain text: a record has a NUL character. Take it out.")
        if text:
            yield re.sub(SURROGATE, "?", plain_newlines(text))


def _json_lines(file: BinaryIO, name: str, field: str) -> Iterator[str]:
    lines = io.TextIOWrapper(unpacked(file), "utf-8-sig", newline="\n")
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if not line.isspace():
                yield _text_of(json.loads(line), field, f"{name}, line {number:,},")
    except UnicodeDecodeError:
        raise TextError(
            f"{name} is not UTF-8 after line {number:,}, as JSON must be. Save it as UTF-8."
        ) from None
    except (json.JSONDecodeError, RecursionError):
        raise TextError(
            f"{name} must have a JSON object per line, but line {number:,} is none. Correct it."
        ) from None
    except PACKING_ERRORS:
        raise damaged(name) from None


def _text_of(record: Any, field: str, where: str) -> str:
    """The text of a record; nothing where it is null."""
    if not isinstance(record, dict):
        raise TextError(f"{where} must be a JSON object, but is none. Correct it.")
    if field not in record:
        raise TextError(f"{where} has no {field!r:.60}, but {_listed(record)}: {FIELD}")
    text = record[field]
    if not isinstance(text, str | None):
        kind = type(text).__name__
        raise TextError(f"{where} must have a text in {field!r:.60}, but got {kind}: {FIELD}")
    return text or ""


def _parquet(file: BinaryIO, name: str, field: str) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet, types

    try:
        # Else a whole group of rows would be read at once.
        table = parquet.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
        columns = {column.name: column.type for column in table.schema_arrow}
        if field not in columns:
            raise TextError(f"{name} has no {field!r:.60}, but {_listed(columns)}: {FIELD}")
        if not (types.is_string(columns[field]) or types.is_large_string(columns[field])):
            kind = columns[field]
            raise TextError(f"{name} must have a text in {field!r:.60}, but got {kind}: {FIELD}")
        for batch in table.iter_batches(_ROWS, columns=[field]):
            yield from (text or "" for text in batch.column(0).to_pylist())
    except (pyarrow.ArrowException, OSError):
        raise TextError(f"{name} is a damaged .parquet file. Copy it again.") from None


def _listed(names: Any) -> str:
    """The first names of fields, in quotes."""
    shown = [shorten(str(name)) for name in names][:_SHOWN_FIELDS]
    return ", ".join(shown) or "no field at all"
