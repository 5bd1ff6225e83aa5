"""The estimate is corrected by how fast this machine's own runs were."""

import dataclasses

import pytest

from keras_lm.runs.own_pace import FEWEST_STEPS, NEWEST, learned_speed
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings import estimates
from keras_lm.settings.presets import ORIGINAL, QUICK_START

HERE, FLOPS = "this machine", 1e11
CONFIG = QUICK_START.with_vocab_size(67)


def run(slower: float, step=1_000, machine=HERE, state="finished", config=CONFIG) -> RunSummary:
    """A run whose steps took so many times as long as estimated."""
    each = estimates.step_seconds(config, estimates.Speed(FLOPS)) if config else 1.0
    status = {"step": step, "train_seconds": slower * step * each, "machine": machine}
    return RunSummary("20260131-093000-1f2e3d", state, config, status)


def test_the_next_run_takes_as_long_per_step_as_the_last_ones():
    speed = learned_speed(FLOPS, [run(1.5)], HERE)
    assert speed.slower == pytest.approx(1.5)
    for config in (CONFIG, ORIGINAL.with_vocab_size(67)):
        measured = estimates.step_seconds(config, estimates.Speed(FLOPS))
        assert estimates.step_seconds(config, speed) == pytest.approx(1.5 * measured)
    none = dataclasses.replace(CONFIG, training=CONFIG.training.changed(steps=1))
    more = dataclasses.replace(CONFIG, training=CONFIG.training.changed(steps=101, eval_every=0))
    both = (estimates.run_seconds(config, speed) for config in (more, none))
    assert next(both) - next(both) == pytest.approx(100 * estimates.step_seconds(CONFIG, speed))


def test_what_ran_beside_the_last_run_or_runs_now_is_counted_once():
    alone = run(1.5)
    beside = run(1.5 * 1.8)
    beside.status["others"] = 0.8
    for last in (alone, beside):
        speed = learned_speed(FLOPS, [last], HERE)
        assert speed.slower == pytest.approx(1.5)
        now = speed._replace(others=0.5)
        expected = 1.5 * 1.5 * estimates.step_seconds(CONFIG, estimates.Speed(FLOPS))
        assert estimates.step_seconds(CONFIG, now) == pytest.approx(expected)


def test_of_a_killed_run_the_seconds_are_those_of_its_last_model():
    killed = run(1.5, step=500, state="interrupted")
    killed.status.update(step=900, model_step=500)
    assert learned_speed(FLOPS, [killed], HERE).slower == pytest.approx(1.5)


def test_one_run_that_was_disturbed_does_not_decide():
    assert learned_speed(FLOPS, [run(9.0), run(1.1), run(1.2)], HERE).slower == pytest.approx(1.2)


def test_only_the_newest_runs_count():
    runs = [*(run(2.0) for _ in range(NEWEST)), *(run(0.5) for _ in range(9))]
    assert learned_speed(FLOPS, runs, HERE).slower == pytest.approx(2.0)


@pytest.mark.parametrize(
    "other",
    [
        {"machine": "another"},
        {"state": "training"},
        {"state": "interrupted"},  # killed: its seconds are those of a checkpoint, its step is not
        {"state": "failed"},
        {"config": None},
        {"config": QUICK_START},  # its vocabulary is not known
        {"step": FEWEST_STEPS - 1},
        {"slower": 0.0},
    ],
    ids=range(8),
)
def test_a_run_that_says_nothing_of_this_machine_does_not_count(other):
    slower = other.pop("slower", 3.0)
    assert learned_speed(FLOPS, [run(slower, **other)], HERE) == estimates.Speed(FLOPS)
    assert learned_speed(FLOPS, [run(3.0, step=FEWEST_STEPS)], HERE).slower == pytest.approx(3.0)
