"""How fast a run is by now, and so how many steps fit into the seconds that are left."""

import bisect
import contextlib
import math
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping

from keras_lm.settings.training_config import MOST_STEPS

MEMORY_SECONDS = 4.0  # over which steps are measured: speed changes on a shared machine
MEMORY_CHORES = 3  # the newest durations of a chore, of which the middle one counts


class Pace:
    """Measures the steps and the chores between them.

    Attributes:
        calls: compiled calls measured.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._durations: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MEMORY_CHORES))
        self._steps = self._seconds = 0.0
        self._mark, self._chores = time.perf_counter(), 0.0

    @contextlib.contextmanager
    def chore(self, name: str, times: float = 1.0) -> Iterator[None]:
        """Measures what is done within, which is then no part of the steps.

        Args:
            name: of the chore.
            times: how often it holds what is done within.
        """
        begin = time.perf_counter()
        yield
        seconds = time.perf_counter() - begin
        self._durations[name].append(times * seconds)
        self._chores += seconds

    def begin(self) -> None:
        """What was before is no part of the steps."""
        self._mark, self._chores = time.perf_counter(), 0.0

    def made(self, count: int) -> None:
        """Notes that so many steps were made since the last ones; the first call warms up."""
        now = time.perf_counter()
        if self.calls:
            seconds = now - self._mark - self._chores
            remembered = math.exp(-seconds / MEMORY_SECONDS)
            self._steps = remembered * self._steps + count
            self._seconds = remembered * self._seconds + seconds
        self.calls += 1
        self._mark, self._chores = now, 0.0

    def steps_within(self, seconds: float, step: int, every: Mapping[str, int]) -> int:
        """How many more steps fit, with the chores between them and at the end.

        Args:
            seconds: that are left.
            step: updates made.
            every: of each chore, the steps between two; 0: only at the end.
        """
        per_step = self._seconds / max(self._steps, 1.0)
        # The first time may have compiled: of two durations the shorter one counts.
        costs = {name: statistics.median_low(each) for name, each in self._durations.items()}
        regular = [(every[name], cost) for name, cost in costs.items() if every.get(name)]
        end = sum(costs.values())

        def needed(count: int) -> float:
            # What is due at `step` is still to come; at the last step everything is done once.
            first, last = step - 1, step + count - 1
            chores = sum(cost * (last // each - first // each) for each, cost in regular)
            return count * per_step + chores + end

        return bisect.bisect_right(range(1, MOST_STEPS - step + 1), seconds, key=needed)
