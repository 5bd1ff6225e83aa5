"""Estimates: what must hold of them on any machine."""

import dataclasses

import pytest

from keras_lm import estimates
from keras_lm.presets import QUICK_START

CONFIG = dataclasses.replace(
    QUICK_START, model=dataclasses.replace(QUICK_START.model, vocab_size=67)
)


def changed(part: str, **values):
    return dataclasses.replace(
        CONFIG, **{part: dataclasses.replace(getattr(CONFIG, part), **values)}
    )


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("training", {"batch_size": 24}),
        ("model", {"context_length": 128}),
        ("model", {"d_model": 256}),
        ("model", {"num_blocks": 8}),
        ("model", {"vocab_size": 6007}),
        ("model", {"activation": "swiglu"}),
    ],
)
def test_more_of_anything_needs_more_memory_and_time(part, values):
    more = changed(part, **values)
    assert estimates.memory_bytes(more) > estimates.memory_bytes(CONFIG)
    assert estimates.run_seconds(more, 1e11) > estimates.run_seconds(CONFIG, 1e11)


def test_accumulation_costs_time_and_no_memory():
    more = changed("training", gradient_accumulation=3)
    assert estimates.memory_bytes(more) == estimates.memory_bytes(CONFIG)
    assert estimates.training_flops(more.model, more.training) > 2 * estimates.training_flops(
        CONFIG.model, CONFIG.training
    )


def test_time_is_a_start_and_then_a_pace():
    single, double = (
        estimates.run_seconds(changed("training", steps=steps), 1e11) - estimates.START_SECONDS
        for steps in (1000, 2000)
    )
    assert double == pytest.approx(2 * single)


def test_the_machine_is_measured_once():
    rate = estimates.matrix_flops_per_second()
    assert 1e8 < rate < 1e15


def test_only_standard_attention_keeps_a_square():
    def growth(attention: str) -> float:
        sizes = [
            estimates.memory_bytes(changed("model", attention=attention, context_length=length))
            - estimates.PROCESS_BYTES
            for length in (4096, 8192)
        ]
        return sizes[1] / sizes[0]

    assert growth("standard") > 3 > 2.1 > growth("linear") > growth("flash") - 0.01 > 1.5
