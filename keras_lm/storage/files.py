"""Files as anybody may have left them: read within limits, written whole or not at all.

Where a file is expected there may be a folder, a pipe, a device or a gigabyte of zeros. Nothing
here waits for any of them or reads more than it was asked to. Standard library only.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, NoReturn

PARTIAL = ".keras_lm-partial-"  # begins the name of whatever is still being written
MOST_JSON_BYTES = 2**20


class DamagedFile(ValueError):
    """A file that cannot be used as it is; the message says in one sentence why."""


def open_plain(path: Path) -> io.BufferedReader:
    """Opens an ordinary file to read it; OSError for anything else."""
    return open(_plain_descriptor(path, os.O_RDONLY), "rb")


def append_plain(path: Path) -> io.FileIO:
    """Opens an ordinary file, made if need be, to append to it; OSError for anything else.

    What is written goes to the system at once, but a full disk may take less of it.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return open(_plain_descriptor(path, flags), "ab", buffering=0)


def _plain_descriptor(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)  # which never waits for a pipe
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "It is not an ordinary file", str(path))
    return descriptor


def read_plain(path: Path, most_bytes: int) -> bytes | None:
    """The content of an ordinary file; None where there is none.

    Raises:
        DamagedFile: for anything but an ordinary file, one that is too large or cannot be read.
    """
    try:
        with open_plain(path) as file:
            content = file.read(most_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DamagedFile(f"{path.name} cannot be read: {error.strerror}.") from None
    if len(content) > most_bytes:
        raise DamagedFile(f"{path.name} must have at most {most_bytes:,} bytes, but has more.")
    return content


def sha256(path: Path) -> str:
    """The hash of an ordinary file, which may be larger than memory; OSError for anything else."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)  # making one takes as long as a line


def parse_json(content: bytes) -> Any:
    """The JSON value of some bytes; ValueError for anything else, NaN and deep nests included.

    Example:
        >>> parse_json(b'{"step": 5}')
        {'step': 5}
    """
    try:
        return _DECODER.decode(content.decode())
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"its byte {error.start:,} is not UTF-8") from None


def read_json(path: Path, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """The file's JSON value; None where there is no file.

    Raises:
        DamagedFile: for a file that cannot be read, is too large or holds no JSON.
    """
    content = read_plain(path, most_bytes)
    try:
        return None if content is None else parse_json(content)
    except ValueError as error:
        raise DamagedFile(f"{path.name} must be JSON, but {error!s:.100}.") from None


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Replaces `path`, or what it links to, by `content`, whole or not at all.

    Raises:
        OSError: when the disk refuses; the old file is intact.
    """
    path = Path(os.path.realpath(path))
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    temporary = partial_path(path.parent)
    mode = path.stat().st_mode & 0o777 if path.is_file() else 0o666
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # it is said of the name that people know
            error.filename, error.filename2 = str(path), None
        raise


def partial_path(folder: Path) -> Path:
    """A new name in `folder` for what is being written."""
    return folder / f"{PARTIAL}{os.urandom(6).hex()}"


def flush_folder(folder: Path) -> None:
    """Waits until the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_partial(path: Path) -> None:
    """Removes what was being written, a file or a folder."""
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def remove_leftovers(folder: Path, before: float) -> None:
    """Removes what killed processes were writing into `folder` before a time (`time.time()`)."""
    for path in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < before:
                remove_partial(path)


def last_lines(path: Path, num_bytes: int) -> str:
    """The last whole lines of a text, in so many bytes; "" where it cannot be read."""
    try:
        with open_plain(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - num_bytes))
            is_whole = file.tell() == 0
            tail = file.read(num_bytes).decode(errors="replace")
            return tail if is_whole else tail.partition("\n")[2] or tail
    except OSError:
        return ""
