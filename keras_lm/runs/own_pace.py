"""How fast this machine's own runs were, beside what was estimated for them."""

import itertools
import statistics
from collections.abc import Iterable, Sequence

from keras_lm.runs.slots import cores_per_slot
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings import estimates
from keras_lm.settings.estimates import Speed
from keras_lm.storage.run_folder import FINISHED, STOPPED
from keras_lm.system.machine import describe_machine, load_of_others, num_cores

NEWEST = 5  # runs that are looked at: a machine may have become slower or faster
FEWEST_STEPS = 50  # the first ones are slower
ENDED = (FINISHED, STOPPED)  # the seconds of others may be those of an earlier step


def slot_speed(flops_per_second: float, runs: Sequence[RunSummary]) -> Speed:
    """How fast a run is in a slot of this machine, beside what else is at work on it.

    Args:
        flops_per_second: what `machine.matrix_flops_per_second` measured.
        runs: those of the page, newest first; what they use now is no loss, since a new run waits
            for its slot.
    """
    cores = cores_per_slot()
    speed = learned_speed(flops_per_second * cores / num_cores(), runs, describe_machine(cores))
    own = {run.status.get("pid", 0) for run in runs if run.is_active}
    return speed._replace(others=load_of_others(own))


def learned_speed(flops_per_second: float, runs: Iterable[RunSummary], machine: str) -> Speed:
    """The machine's speed, corrected by its own newest runs.

    Args:
        flops_per_second: what `machine.matrix_flops_per_second` measured.
        runs: newest first; those count that ended with a model.
        machine: what `machine.describe_machine` says; runs of other machines do not count.

    Example:
        >>> learned_speed(1e11, [], "a laptop").slower
        1.0
    """
    measured = Speed(flops_per_second)
    ratios = list(itertools.islice(_ratios(measured, runs, machine), NEWEST))
    return measured._replace(slower=statistics.median(ratios)) if ratios else measured


def _ratios(measured: Speed, runs: Iterable[RunSummary], machine: str) -> Iterable[float]:
    """Of each run that counts, how many times as long its steps took as was estimated."""
    for run in runs:
        seconds, step = run.status.get("train_seconds"), run.status.get("model_step", 0)
        if not step and run.state in ENDED:  # of an earlier version, which did not note it
            step = run.status.get("step", 0)
        if run.is_active or not seconds or step < FEWEST_STEPS or run.config is None:
            continue
        if run.status.get("machine") == machine and run.config.model.vocab_size:
            speed = measured._replace(others=run.status.get("others", 0.0))
            yield seconds / step / estimates.step_seconds(run.config, speed)
