"""When the runs that wait will begin, from what those before them are estimated to take."""

import heapq
import time
from collections.abc import Sequence

from keras_lm.runs.queue import position
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings import estimates
from keras_lm.settings.estimates import Speed
from keras_lm.storage import run_folder


def in_order(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """The runs that wait, the next one first."""
    waiting = (run for run in runs if run.state == run_folder.QUEUED)
    return sorted(waiting, key=lambda run: position(run.run_id, run.status))


def expected_waits(runs: Sequence[RunSummary], slots: int, speed: Speed) -> dict[str, float | None]:
    """Seconds until each waiting run begins, by id; None where that cannot be known.

    Args:
        runs: all runs: those that read the same text before say how long its parts are.
        slots: how many train at once.
        speed: of one slot.
    """
    training = [run for run in runs if run.is_active and run.state != run_folder.QUEUED]
    left = [seconds_left(run, runs, speed) for run in training]
    waits: dict[str, float | None] = {}
    ends = sorted([0.0] * slots + [seconds for seconds in left if seconds is not None])[-slots:]
    is_known = None not in left
    for run in in_order(runs):
        begin = heapq.heappop(ends) if is_known else 0.0
        waits[run.run_id] = begin if is_known else None
        seconds = seconds_left(run, runs, speed)
        is_known = is_known and seconds is not None
        heapq.heappush(ends, begin + (seconds or 0.0))
    return waits


def seconds_left(run: RunSummary, runs: Sequence[RunSummary], speed: Speed) -> float | None:
    """What is left of a run's time, estimated; None where its text is not known."""
    ends_at = run.status.get("ends_at")
    if ends_at and run.state == run_folder.TRAINING:  # else it is of an earlier process
        return max(0.0, ends_at - time.time())
    if (config := run.trained_config) is None:
        return None
    same_text = (other.status for other in [run, *runs] if other.config and _is_like(other, run))
    known = next((status for status in same_text if status.get("vocab_size")), {})
    if not (vocab_size := config.model.vocab_size or known.get("vocab_size", 0)):
        return None
    config = config.with_vocab_size(vocab_size)
    seconds = estimates.run_seconds(config, speed, known.get("validation_tokens", 0))
    done = run.status.get("step", 0) / max(1, run.status.get("steps", 1))
    if done >= 1.0 and run.state != run_folder.TRAINING:  # by how much longer, its process knows
        return None
    return seconds * max(0.0, 1.0 - done)


def _is_like(other: RunSummary, run: RunSummary) -> bool:
    return (
        other.config is not None and run.config is not None and other.config.data == run.config.data
    )
