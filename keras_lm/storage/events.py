"""Lines of an events file: what is in one, and which to read of many. Standard library only."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from keras_lm.storage.files import parse_json
from keras_lm.storage.records import check_event

METRICS_BEGIN, VALIDATES = b'{"kind": "metrics"', b'"val_loss"'  # as the trainer writes them
LONG_LINE = 2**16  # bytes: hardly a sample has more
MOST_LONG_BYTES = 8 * 2**20  # of long lines that are read: JSON can take 0.1 s per megabyte
Item = TypeVar("Item")


def parse_event(line: bytes) -> tuple[dict, str]:
    """The event in a line, and what is wrong with it, or "".

    Example:
        >>> parse_event(b'{"kind": "met')[0]
        {}
    """
    if not line:  # left out by the reader
        return {}, f"of lines above {LONG_LINE:,} bytes, {MOST_LONG_BYTES:,} bytes are read"
    if not line.startswith(b"{"):  # a piece of a line that was torn, or is too long
        return {}, "an event must be a JSON object on one line"
    try:
        return check_event(parse_json(line))
    except ValueError as error:
        return {}, f"an event must be JSON, but {error!s:.100}"


def readable(lines: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """The lines, each with the offset after it; of long ones so many as take a second, else b"".

    Example:
        >>> list(readable([(b"{}", 3)]))
        [(b'{}', 3)]
    """
    left = MOST_LONG_BYTES
    for line, end in lines:
        is_long = len(line) > LONG_LINE
        left -= len(line) * is_long
        yield b"" if is_long and left < 0 else line, end


def is_until(line: bytes, last_step: int) -> bool:
    """Whether a line holds an event of a step up to `last_step`, or what was planned for later.

    Example:
        >>> line = b'{"kind": "note", "step": 5, "message": "Stopped."}'
        >>> is_until(line, 5), is_until(line, 4)
        (True, False)
    """
    event, fault = parse_event(line)
    return not fault and (event["kind"] == "plan" or event.get("step", 0) <= last_step)


def thinned(lines: list[bytes], about: int) -> list[bytes]:
    """The lines without most points of a long curve: to parse all of them takes long.

    Args:
        lines: of an events file.
        about: so many points stay, evenly spread, beside all that have a validation.
    """
    plain = [
        index
        for index, line in enumerate(lines)
        if line.startswith(METRICS_BEGIN) and VALIDATES not in line
    ]
    left_out = {*plain} - {*evenly(plain, about)}
    return [line for index, line in enumerate(lines) if index not in left_out]


def evenly(items: list[Item], about: int) -> list[Item]:
    """About as many of the items, less than twice that, evenly spread, the last one among them.

    Example:
        >>> evenly([1, 2, 3, 4, 5], about=2)
        [1, 3, 5]
    """
    every = max(1, len(items) // about)
    return items[(len(items) - 1) % every :: every]
