"""What a run prints in a terminal."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    """The text with its control characters, but for those in `keep`, as escapes such as \\x1b.

    Sent to a terminal as they are, they would move its cursor, colour it or do worse.

    Example:
        >>> printable("red: \\x1b[31m")
        'red: \\\\x1b[31m'
    """
    return _CONTROL.sub(lambda found: found[0] if found[0] in keep else escape(found[0]), text)


def escape(character: str) -> str:
    r"""A character as Python writes it: \n, \x1b, \ud800.

    Example:
        >>> print(escape(chr(27)))
        \x1b
    """
    return repr(character)[1:-1]


def accept_any_character() -> None:
    """Lets stdout and stderr replace characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where it was closed before the start
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hides what libraries print to the standard error meanwhile; exceptions stay."""
    if sys.stderr is None:  # it was closed before the start
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def describe(event: dict, steps: int) -> str:
    """One line about a metrics event.

    Args:
        event: of the kind metrics.
        steps: the run's last step; 0 while that is not known.

    Example:
        >>> describe({"step": 10, "loss": 2.5, "tokens_per_second": 12345.6}, steps=100)
        'step 10/100  loss 2.5000  12,346 tokens/s'
    """
    end = f"/{steps}" if steps else ""
    line = (
        f"step {event['step']}{end}  loss {event['loss']:.4f}  "
        f"{event['tokens_per_second']:,.0f} tokens/s"
    )
    if "val_loss" in event:
        line += f"  val_loss {event['val_loss']:.4f}"
    if "first_val_bits_per_byte" in event:
        line += f"  first text {event['first_val_bits_per_byte']:.4f} bits per byte"
    return line


def report_progress(line: str) -> None:
    """Progress to stderr: one line that is overwritten on a terminal, lines elsewhere."""
    say(line, end="\033[K\r" if sys.stderr and sys.stderr.isatty() else "\n")


def say(line: str, end: str = "\n") -> None:
    """Prints to stderr; a run goes on when nobody can read it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(printable(line), end=end, file=sys.stderr, flush=True)
