"""Estimates: what must hold of them on any machine."""

import dataclasses
import re

import pytest

from keras_lm.settings import estimates
from keras_lm.settings.config import ConfigError
from keras_lm.settings.presets import QUICK_START
from keras_lm.system import machine

CONFIG = dataclasses.replace(
    QUICK_START,
    model=dataclasses.replace(QUICK_START.model, vocab_size=67, activation="relu2"),
    training=QUICK_START.training.changed(steps=1750),
)


def changed(part: str, **values):
    return dataclasses.replace(
        CONFIG, **{part: dataclasses.replace(getattr(CONFIG, part), **values)}
    )


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("training", {"batch_size": 24}),
        ("model", {"context_length": 256}),
        ("model", {"d_model": 256}),
        ("model", {"num_blocks": 8}),
        ("model", {"vocab_size": 6007}),
        ("model", {"activation": "swiglu"}),
    ],
)
def test_more_of_anything_needs_more_memory_and_time(part, values):
    more = changed(part, **values)
    assert estimates.memory_bytes(more) > estimates.memory_bytes(CONFIG)
    assert estimates.run_seconds(more, estimates.Speed(1e11)) > estimates.run_seconds(
        CONFIG, estimates.Speed(1e11)
    )


def test_accumulation_costs_time_and_no_memory():
    more = changed("training", gradient_accumulation=3)
    assert estimates.memory_bytes(more) == estimates.memory_bytes(CONFIG)
    work, accumulated = (
        estimates.step_work(config.model, config.training) for config in (CONFIG, more)
    )
    assert accumulated["products"] == 3 * work["products"]
    assert accumulated["optimizer products"] == work["optimizer products"]


def test_time_is_a_start_and_then_a_pace():
    one, two, three = (
        estimates.run_seconds(changed("training", steps=steps), estimates.Speed(1e11))
        for steps in (1000, 2000, 3000)
    )
    assert three - two == pytest.approx(two - one)
    assert one > two - one


@pytest.mark.parametrize("d_model", [4096, 64])
def test_a_machine_twice_as_fast_at_products_halves_their_part_of_the_pace_only(d_model):
    shape = dataclasses.replace(CONFIG.model, d_model=d_model, ffn_dim=4 * d_model)
    fewer, more = (
        dataclasses.replace(changed("training", steps=steps), model=shape) for steps in (1000, 2000)
    )

    def pace(slowness: float) -> float:
        rate = estimates.REFERENCE_FLOPS / slowness
        difference = estimates.run_seconds(more, estimates.Speed(rate)) - estimates.run_seconds(
            fewer, estimates.Speed(rate)
        )
        return difference / 1000

    work = estimates.step_work(shape, CONFIG.training)
    costs = {name: estimates.STEP_SECONDS[name] * amount for name, amount in work.items()}
    products = sum(costs[name] for name in ("products", "attention products", "optimizer products"))
    others = sum(costs.values()) - products
    assert products > 0 and others > 0
    assert pace(1.0) == pytest.approx(products + others)
    assert pace(0.5) == pytest.approx(products / 2 + others)
    assert pace(2.0) == pytest.approx(products * 2 + others)


def test_a_machine_fast_at_products_starts_faster_too():
    starts = [
        estimates.run_seconds(changed("training", steps=1), estimates.Speed(rate))
        for rate in (1e11, 4e11)
    ]
    assert starts[1] == pytest.approx(starts[0] / 2, rel=0.1)


def test_other_programs_slow_the_start_half_as_much_as_the_steps():
    def seconds(steps, others):
        speed = estimates.Speed(1e11, others=others)
        return estimates.run_seconds(changed("training", steps=steps, eval_every=0), speed)

    for others in (0.0, 0.3, 1.0, 2.0):
        step = seconds(2, others) - seconds(1, others)
        assert step == pytest.approx((1 + others) * (seconds(2, 0.0) - seconds(1, 0.0)))
        around = seconds(1, 0.0) - (seconds(2, 0.0) - seconds(1, 0.0))  # all but the steps
        assert seconds(1, others) - step == pytest.approx((1 + others / 2) * around)


def test_validation_takes_time_as_often_as_it_is_done():
    def seconds(**changes):
        config = changed("training", steps=100, **changes)
        return estimates.run_seconds(config, estimates.Speed(1e11), 10_007) - estimates.run_seconds(
            config, estimates.Speed(1e11)
        )

    at_the_end = seconds(eval_every=0)
    assert at_the_end > 0
    assert seconds(eval_every=100) == pytest.approx(at_the_end)
    assert seconds(eval_every=30) == pytest.approx(4 * at_the_end)


def test_every_kind_of_work_has_its_cost():
    assert set(estimates.step_work(CONFIG.model, CONFIG.training)) == set(estimates.STEP_SECONDS)


MEMORY = [2**29, 2**30, 3 * 2**30]


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("attention", ["standard", "linear"])
@pytest.mark.parametrize("shape", [(64, 64, 4), (8192, 48, 3), (256, 8192, 128), (2, 8190, 1)])
def test_advice_about_memory_is_good(monkeypatch, memory, positions, attention, shape):
    monkeypatch.setattr(machine, "total_memory", lambda: memory)
    context_length, d_model, num_heads = shape
    model = {"context_length": context_length, "d_model": d_model}
    model |= {"num_heads": num_heads, "num_blocks": 7}
    config = changed("model", positions=positions, attention=attention, **model)
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, batch_size=41)
    )
    try:
        estimates.check_memory(config)
    except ConfigError as error:
        advice = str(error).rpartition(": ")[2]
    else:
        assert estimates.memory_bytes(config) <= memory
        return
    if advice == "use a machine with more.":
        assert memory < estimates.PROCESS_BYTES  # the program itself
        return
    for way in advice.removeprefix("lower ").split(", or "):
        followed = config
        for name, value in re.findall(r"(\w+) to ([\d,]+)", way):
            part = "training" if name == "batch_size" else "model"
            number = {name: int(value.replace(",", ""))}
            changed_part = dataclasses.replace(getattr(followed, part), **number)
            followed = dataclasses.replace(followed, **{part: changed_part})
        assert followed != config
        estimates.check_memory(followed)


def test_only_standard_attention_keeps_a_square():
    def growth(attention: str) -> float:
        """How much more the second doubling of a long context adds than the first."""
        first, second, third = (
            estimates.memory_bytes(changed("model", attention=attention, context_length=length))
            for length in (4096, 8192, 16384)
        )
        return (third - second) / (second - first)

    assert growth("standard") > 3
    assert growth("linear") == pytest.approx(2) == growth("flash")


def test_of_a_long_text_only_what_is_measured_counts():
    most = estimates.MEASURED_TOKENS
    less, all_of_it, more = (
        estimates.run_seconds(CONFIG, estimates.Speed(1e11), tokens)
        for tokens in (most - 1, most, 10 * most)
    )
    assert less < all_of_it == more


def test_of_a_task_all_that_is_tested_counts_and_steps_are_as_long_as_what_is_trained():
    most, speed = estimates.MEASURED_TOKENS, estimates.Speed(1e11)
    task = changed("data", data="task:copy")
    assert estimates.run_seconds(task, speed, 2 * most) > estimates.run_seconds(task, speed, most)
    longer = changed("data", data="task:copy", task_test_length=400)

    def pace(config):
        more = dataclasses.replace(config, training=config.training.changed(steps=2750))
        return estimates.run_seconds(more, speed) - estimates.run_seconds(config, speed)

    assert pace(longer) == pytest.approx(pace(task))
