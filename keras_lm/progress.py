"""What a run says in a terminal."""

import contextlib
import sys


def describe(event: dict, steps: int) -> str:
    """One line about a metrics event."""
    line = (
        f"step {event['step']}/{steps}  loss {event['loss']:.4f}  "
        f"{event['tokens_per_second']:,.0f} tokens/s"
    )
    return f"{line}  val_loss {event['val_loss']:.4f}" if "val_loss" in event else line


def report_progress(line: str) -> None:
    """Progress to stderr: one line that is overwritten on a terminal, lines elsewhere."""
    say(line, end="\033[K\r" if sys.stderr.isatty() else "\n")


def say(line: str, end: str = "\n") -> None:
    """Prints to stderr; a run goes on when nobody can hear it."""
    with contextlib.suppress(OSError):
        print(line, end=end, file=sys.stderr, flush=True)
