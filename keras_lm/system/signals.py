"""The signals that ask a process to end: Ctrl-C, a closed terminal, a machine's shutdown."""

import contextlib
import signal
from collections.abc import Callable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_interrupted: list[bool] = []


def on_ending(action: Callable[[], object]) -> None:
    """Calls `action` at each of these signals, but not at one that nohup ignores."""
    for name in ENDING:
        if name != signal.SIGHUP or signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, lambda *_: action())


def interrupt() -> None:
    """An action: ends what is being done with a KeyboardInterrupt."""
    _interrupted.append(True)
    raise KeyboardInterrupt


def is_ending() -> bool:
    """Whether `interrupt` was called: a library may replace its KeyboardInterrupt."""
    return bool(_interrupted)


@contextlib.contextmanager
def ending_later() -> Iterator[None]:
    """Delays these signals to the end of the block, which they must not interrupt."""
    before = {name: signal.getsignal(name) for name in ENDING}
    asked: list[int] = []
    for name in ENDING:
        if before[name] != signal.SIG_IGN:
            signal.signal(name, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    if asked:
        signal.raise_signal(asked[0])


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Lets these signals end the process within the block, where no Python code could hear them."""
    before = {name: signal.getsignal(name) for name in ENDING}
    for name in ENDING:
        if before[name] != signal.SIG_IGN:
            signal.signal(name, signal.SIG_DFL)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
