"""Work on chunks shared among processes, a few of which are in memory at a time."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from keras_lm.data.large import work
from keras_lm.data.large.work import Chunk
from keras_lm.data.reading import TextError
from keras_lm.system.machine import num_cores

MOST_PROCESSES = 8  # each takes about 150 MB
UNGUARDED = (
    "The script that prepares this text is run again by each process that helps with it: put what "
    "the script does below `if __name__ == '__main__':`."
)


def shared_work(
    do: Callable[[Chunk], dict[str, Any]],
    chunks: Iterable[Chunk],
    tokenizer: dict[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """What `do` finds in each chunk, in the order in which it is found.

    Args:
        do: a function of `work`, perhaps with arguments.
        chunks: what it is given.
        tokenizer: that the processes use, as JSON-able data.

    Raises TextError when a process ended early, and what `do` raises.
    """
    count = min(num_cores(), MOST_PROCESSES)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, work.begin, (tokenizer,))
    pending: set[Future[dict[str, Any]]] = set()
    try:
        for chunk in chunks:
            pending.add(pool.submit(do, chunk))
            if len(pending) > count:  # one waits, so that no process has nothing to do
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise TextError(
            "A process that tokenizes the text ended early, perhaps for lack of memory: start "
            "again, what was done is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def check_begins_here() -> None:
    """TextError in a process of a pool that is amid the import of its parent's script.

    A pool that began here could start no process, and its parent would wait for it for ever.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise TextError(UNGUARDED)
