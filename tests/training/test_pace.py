"""A run on the clock ends on time with few plans, however its pace wanders: simulated."""

import types

import numpy as np
import pytest

from keras_lm.settings.training_config import MOST_STEPS
from keras_lm.training import pace
from keras_lm.training.pace import Pace
from keras_lm.training.plan import Stage
from keras_lm.training.planner import MEASURED_CALLS, is_off

BUDGET, PER_STEP = 40.0, 0.02  # seconds
EVERY = {"validation": 200, "sample": 200, "checkpoint": 500}
COSTS = {"validation": 0.3, "sample": 0.2, "checkpoint": 0.2}  # seconds


def simulate(monkeypatch, seed: int, noise: float, later: float) -> tuple[float, int]:
    """The seconds and the plans of a run.

    Args:
        noise: the spread of the logarithm of the pace, which wanders within some calls.
        later: what the second half takes in comparison to the first.
    """
    clock, random = types.SimpleNamespace(now=0.0), np.random.default_rng(seed)
    monkeypatch.setattr(pace, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    measured, stage, step, plans, wander = Pace(), Stage(0, MOST_STEPS), 0, 0, 0.0

    def do_chore(name: str) -> None:
        with measured.chore(name):
            clock.now += COSTS[name] * slowness * np.exp(noise * random.normal())

    while step < stage.steps:
        count = min(10, stage.steps - step)
        wander = 0.9 * wander + np.sqrt(1 - 0.9**2) * noise * random.normal()
        slowness = np.exp(wander) * (later if clock.now > BUDGET / 2 else 1.0)
        clock.now += count * PER_STEP * slowness
        step += count
        measured.made(count)
        if measured.calls > MEASURED_CALLS:
            steps = step + measured.steps_within(BUDGET - clock.now, step, EVERY)
            if is_off(stage, steps, step):
                stage, plans = stage.ending(steps, step), plans + 1
        for name, every in EVERY.items():
            if measured.calls == MEASURED_CALLS or step % every == 0 or step >= stage.steps:
                do_chore(name)
    return clock.now, plans


@pytest.mark.parametrize("later", [1.0, 1.6, 0.6], ids=["even", "slower", "faster"])
@pytest.mark.parametrize(("noise", "most_plans"), [(0.0, 8), (0.1, 10), (0.2, 16)])
def test_a_wandering_pace_ends_on_time_with_few_plans(monkeypatch, noise, most_plans, later):
    for seed in range(10 if noise else 1):
        seconds, plans = simulate(monkeypatch, seed, noise, later)
        assert seconds == pytest.approx(BUDGET, rel=0.05), seed
        assert plans <= most_plans, seed


def test_a_chore_that_hiccups_or_compiles_once_moves_nothing(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(pace, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    measured = Pace()
    for _ in range(2):
        clock.now += 1.0
        measured.made(10)
    fitting = []
    for seconds in (9.0, 1.0, 1.0, 9.0, 1.0, 9.0, 9.0):
        with measured.chore("validation"):
            clock.now += seconds
        fitting.append(measured.steps_within(11.0, 20, {}))
    assert fitting == [20, 100, 100, 100, 100, 20, 20]
