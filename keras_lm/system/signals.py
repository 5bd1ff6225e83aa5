"""The signals that ask a process to end: Ctrl-C, a closed terminal, a machine's shutdown."""

import contextlib
import signal
from collections.abc import Callable, Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_interrupted: list[bool] = []


def on_ending(action: Callable[[], object]) -> None:
    """Calls `action` at each of these signals; nohup's wish to outlive the terminal is kept."""
    for name in ENDING:
        if name != signal.SIGHUP or signal.getsignal(name) != signal.SIG_IGN:
            signal.signal(name, lambda *_: action())


def interrupt() -> None:
    """An action: ends what is being done with a KeyboardInterrupt."""
    _interrupted.append(True)
    raise KeyboardInterrupt


def is_ending() -> bool:
    """Whether `interrupt` was called: libraries may make another error of its KeyboardInterrupt."""
    return bool(_interrupted)


@contextlib.contextmanager
def ending_later() -> Iterator[None]:
    """Puts a KeyboardInterrupt off to the end of the block, which cannot bear one."""
    asked: list[bool] = []
    on_ending(lambda: asked.append(True))
    try:
        yield
    finally:
        on_ending(interrupt)
    if asked:
        raise KeyboardInterrupt
