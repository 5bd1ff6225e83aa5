"""Findings: right about runs that were made for them, silent about noise."""

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_lm.presentation.diagnosis import FEW_UPDATES, diagnose
from keras_lm.settings.config import ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.presets import QUICK_START

CURVES = json.loads((Path(__file__).parents[1] / "fixtures" / "curves.json").read_text())
COLUMNS = ("step", "loss", "val_loss", "val_bits_per_byte")
EXPECTED = {  # made by tests/fixtures/make_curves.py
    "healthy": [],
    "rate x30": ["learning rate too high"],
    "rate /30": ["learning rate too low"],
    "2 kB of text": ["text too small"],
    "shuffled text": ["no order in the text"],
    "repeated text": ["validation text known"],
    "no warm-up": [],  # Muon needs none: it ends as the healthy one does
    "no warm-up, AdamW": ["no warm-up"],  # with 100 steps of it, 2.03 instead of 2.20
    "huge batch": ["batch too large"],
    "tiny model": ["model too small"],
    "too early": ["ended too early"],
}
LABELS = {
    spec.metadata["label"]: spec.name for spec in (*ModelConfig.specs(), *TrainingConfig.specs())
}
VOCABULARY, ENTROPY = 78, 3.09
STATUS = {
    "state": "finished",
    "parameters": 350_000,
    "unigram_entropy": ENTROPY,
    "vocab_size": VOCABULARY,
    "train_tokens": 600_000,
}


def config_with(**changes: Any) -> RunConfig:
    """Quick start with other values of some settings, in steps unless a budget is set."""
    changes = {"steps": 1750} | changes
    parts = {
        name: part.changed(**{key: value for key, value in changes.items() if hasattr(part, key)})
        for name, part in QUICK_START.parts.items()
    }
    return dataclasses.replace(QUICK_START, **parts)


def recorded(name: str) -> tuple[RunConfig, dict, list[dict]]:
    """A run of the fixtures."""
    run = CURVES[name]
    events = [dict(zip(COLUMNS, row, strict=True)) for row in run["events"]]
    known = [{k: v for k, v in event.items() if v is not None} for event in events]
    return config_with(**run["settings"]), run["status"], [e | {"kind": "metrics"} for e in known]


def kinds(config: RunConfig, status: dict, events: list[dict]) -> list[str]:
    return [finding.kind for finding in diagnose(config, status, events)]


def curve(losses: list[float | None], every: int = 100, train: float = 1.0) -> list[dict]:
    """Events whose validation losses are given; the training loss is the same at all of them."""
    return [
        {"kind": "metrics", "step": every * (i + 1), "loss": train}
        | ({} if loss is None else {"val_loss": loss})
        for i, loss in enumerate(losses)
    ]


def suggested(advice: str) -> dict[str, Any]:
    """The settings that an advice names, with the values to try."""
    labels = "|".join(re.escape(label) for label in LABELS)
    found = re.findall(rf"({labels}) to ([\d.,e-]*\d)", advice)
    return {LABELS[label]: json.loads(value.replace(",", "")) for label, value in found}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_run_is_judged_as_a_teacher_would(name):
    assert kinds(*recorded(name)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_while_it_runs_nothing_is_said_that_is_taken_back_as_wrong(name):
    config, status, events = recorded(name)
    for count in range(len(events)):
        said = kinds(config, status | {"state": "training"}, events[:count])
        assert set(said) <= set(EXPECTED[name])


@pytest.mark.parametrize("name", [name for name, found in EXPECTED.items() if found])
def test_an_advice_names_settings_and_values_that_they_can_have(name):
    config, status, events = recorded(name)
    [finding] = diagnose(config, status, events)
    settings = suggested(finding.advice)
    assert bool(settings) == (" text" not in name)
    config_with(**(CURVES[name]["settings"] | settings))  # ConfigError for a bad value
    for key, value in settings.items():
        assert value != getattr(config.model, key, getattr(config.training, key, None))


def test_the_advice_undoes_what_was_done():
    advice = {name: diagnose(*recorded(name))[0].advice for name in EXPECTED if EXPECTED[name]}
    usual = QUICK_START.training.learning_rate
    for name in ("rate x30", "rate /30"):
        assert suggested(advice[name]) == {"learning_rate": usual}
    assert suggested(advice["no warm-up, AdamW"]) == {"warmup_steps": 100}
    assert suggested(advice["huge batch"]) == {"batch_size": 8, "steps": 1280}  # as many sequences
    assert suggested(advice["too early"]) == {"steps": 1000}
    assert suggested(advice["tiny model"]) == {"d_model": 32}


def healthy_curve(chance: np.random.Generator) -> tuple[RunConfig, list[dict]]:
    """A power law down to a floor with the noise of batches and of validations."""
    steps = int(10 ** chance.uniform(2.5, 3.7))
    floor, scale, power = chance.uniform(0.9, 1.6), chance.uniform(10, 40), chance.uniform(0.3, 0.5)
    points, validations = int(chance.integers(20, 100)), int(chance.integers(4, 20))
    gap, every, events = chance.uniform(0.0, 0.06), max(1, points // validations), []
    for index in range(1, points + 1):
        step = max(1, steps * index // points)
        loss = floor + (math.log(VOCABULARY) - floor) * (1 + step / scale) ** -power
        event = {"kind": "metrics", "step": step, "loss": loss * chance.normal(1.0, 0.02)}
        if index % every == 0 or index == points:
            event["val_loss"] = loss * (1 + gap * index / points) * chance.normal(1.0, 0.003)
            event["val_bits_per_byte"] = event["val_loss"] / math.log(2)
        events.append(event)
    return config_with(steps=steps), events


def test_noise_gives_no_finding():
    alarms = []
    for seed in range(100):
        config, events = healthy_curve(np.random.default_rng(seed))
        said = kinds(config, STATUS, events)
        for count in range(len(events)):
            said += kinds(config, STATUS | {"state": "training"}, events[:count])
        alarms += [(seed, set(said))] if said else []
    assert alarms == []


def test_validations_that_only_wobble_are_not_called_overfitting():
    for seed in range(100):
        chance = np.random.default_rng(seed)
        events = curve([2.0 * chance.normal(1.0, 0.003) for _ in range(20)])
        assert kinds(config_with(steps=2000), STATUS, events) in ([], ["plateau"])


@pytest.mark.parametrize(
    ("losses", "overfits"),
    [
        ([], False),
        ([4.0], False),
        ([4.0, 4.5], False),  # once is not enough
        ([4.0, 4.5, 4.6], True),
        ([4.0, 4.5, 4.03], False),
        ([4.0, 4.041, 4.041], True),
        ([4.0, 4.039, 4.041], False),
        ([4.0, 4.039, 4.079], False),
        ([4.0, 4.039, 4.081], True),
        ([5.0, 4.0, 4.5, 4.4], True),
        ([4.5, 4.4, 4.3], False),
    ],
)
def test_a_validation_loss_that_stays_above_its_least_is_overfitting(losses, overfits):
    found = diagnose(config_with(), STATUS | {"unigram_entropy": 9.0}, curve([None, *losses]))
    assert ("overfitting" in [finding.kind for finding in found]) == overfits
    if overfits:
        best = min(losses)
        assert f"({best:.3f}) and is {losses[-1]:.3f} now" in found[0].sentence
        assert suggested(found[0].advice) == {
            "steps": 100 * (losses.index(best) + 2),
            "dropout": 0.1,
        }


@pytest.mark.parametrize(
    ("trained", "kind"),
    [((2.0, 2.0), "overfitting"), ((2.0, 2.05), "overfitting"), ((2.0, 2.07), "loss rising")],
)
def test_a_loss_that_rises_on_both_parts_of_the_text_is_no_overfitting(trained, kind):
    events = curve([2.5, 2.2, 2.4, 2.4])
    for event, loss in zip(events, (2.2, trained[0], 2.0, trained[1]), strict=True):
        event["loss"] = loss
    assert kinds(config_with(), STATUS, events) == [kind]


@pytest.mark.parametrize(("tokens", "kind"), [(15_359, "text too small"), (15_360, "overfitting")])
def test_a_text_that_200_updates_read_ten_times_is_too_small(tokens, kind):
    events = curve([2.0, 2.2, 2.3])
    assert kinds(config_with(), STATUS | {"train_tokens": tokens}, events) == [kind]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_rates_are_judged_by_their_optimizer(optimizer):
    usual = {"adamw": 2e-3, "muon": 3.5e-3}[optimizer]
    events = curve([3.0, 2.9, 2.8, 2.7])
    for factor, expected in (
        (10.0, []),
        (10.1, ["learning rate too high"]),
        (0.1001, []),
        (0.0999, ["learning rate too low"]),
    ):
        config = config_with(
            optimizer=optimizer, learning_rate=factor * usual, min_learning_rate=0.0
        )
        assert kinds(config, STATUS, events) == expected


@pytest.mark.parametrize(
    ("optimizer", "rate", "warmup", "is_told"),
    [
        ("adamw", 4.1e-3, 0, True),
        ("adamw", 4e-3, 0, False),
        ("adamw", 4.1e-3, 1, False),
        ("muon", 3e-2, 0, False),
    ],
)
def test_a_warmup_is_missed_only_where_it_is_needed(optimizer, rate, warmup, is_told):
    config = config_with(optimizer=optimizer, learning_rate=rate, warmup_steps=warmup)
    assert kinds(config, STATUS, curve([3.0, 2.9, 2.8])) == ["no warm-up"] * is_told


def test_a_low_rate_that_learns_all_there_is_was_not_too_low():
    config = config_with(learning_rate=1e-4)
    assert kinds(config, STATUS, curve([1.5, 1.49, 1.48, 1.475])) == []


@pytest.mark.parametrize(
    ("loss", "warmup", "setting"),
    [(4.79, 0, None), (4.8, 0, "warmup_steps"), (4.8, 20, "learning_rate")],
)
def test_a_loss_above_random_guessing_is_named(loss, warmup, setting):
    config = config_with(warmup_steps=warmup)
    events = curve([3.0, 2.0, 1.5])
    events[0]["loss"] = loss  # ln(78) = 4.357
    found = diagnose(config, STATUS, events)
    assert [[*suggested(finding.advice)] for finding in found] == ([[setting]] if setting else [])


@pytest.mark.parametrize(
    ("factor", "state"), [(0.25, "finished"), (0.25, "failed"), (1.0, "failed")]
)
def test_a_run_that_diverged_gets_a_rate_that_is_lower_still(factor, state):
    status = STATUS | {"rate_factor": factor, "state": state}
    found = diagnose(config_with(learning_rate=8e-3), status, curve([3.0, 2.5]))
    rates = [suggested(finding.advice)["learning_rate"] for finding in found]
    assert rates == ([0.002 if state == "finished" else 0.0005] if factor < 1 else [])


@pytest.mark.parametrize(
    ("steps", "state", "losses", "kind"),
    [
        (FEW_UPDATES - 1, "finished", (2.6, 2.5), "ended too early"),
        (FEW_UPDATES - 1, "stopped", (2.6, 2.5), "ended too early"),
        (FEW_UPDATES - 1, "stopped by hand", (2.6, 2.5), None),
        (FEW_UPDATES - 1, "paused", (2.6, 2.5), None),
        (FEW_UPDATES - 1, "training", (2.6, 2.5), None),
        (FEW_UPDATES, "finished", (2.6, 2.5), None),
        (FEW_UPDATES - 1, "finished", (2.5, 2.49), None),  # it had learned what it could
    ],
)
def test_only_a_run_that_ended_while_it_learned_ended_too_early(steps, state, losses, kind):
    events = curve(list(losses))
    for event, step in zip(events, (steps // 2, steps), strict=True):
        event["step"] = step
    length = {"steps": steps + state.endswith("by hand")}
    status = STATUS | length | {"state": state.removesuffix(" by hand")}
    found = kinds(config_with(steps=steps), status, events)
    assert found == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("budget", "longer", "shorter"),
    [
        ({}, {"steps": 1000}, {"steps": 100}),
        ({"max_seconds": 30.0}, {"max_seconds": 300}, {"max_seconds": 10}),
        ({"max_tokens": 76_800}, {"max_tokens": 768_000}, {"max_tokens": 76_800}),
    ],
)
def test_a_length_is_advised_in_what_limits_the_run(budget, longer, shorter):
    [early] = diagnose(config_with(**budget), STATUS, curve([2.6, 2.5], every=50))
    [late] = diagnose(config_with(**budget), STATUS, curve([2.0, 2.2, 2.3]))
    assert suggested(early.advice) == longer
    assert suggested(late.advice) == shorter | {"dropout": 0.1}
    config = config_with(**budget, batch_size=128)
    [large] = diagnose(config, STATUS, curve([2.6, 2.5], every=50))
    assert set(suggested(large.advice)) == {"batch_size"} | ({"steps"} if not budget else set())


def test_seconds_are_advised_by_what_the_steps_took_so_far():
    events = curve([2.0, 2.2, 2.3])
    for event in events:
        event["seconds"] = 15.0 * event["step"] / 300  # half of the budget is left
    status = STATUS | {"state": "training"}
    [found] = diagnose(config_with(max_seconds=30.0), status, events)
    assert suggested(found.advice)["max_seconds"] == 5


def test_more_steps_are_not_advised_where_the_text_is_too_short_for_them():
    events = curve([2.6, 2.5], every=50)
    for tokens, advised in ((14_900, None), (15_360, 200), (10**6, 1000)):
        found = diagnose(config_with(), STATUS | {"train_tokens": tokens}, events)
        assert [suggested(finding.advice).get("steps") for finding in found] == (
            [advised] if advised else []
        )


@pytest.mark.parametrize(
    ("losses", "state", "expected"),
    [
        ([3.08, 3.07, 3.07, 3.07], "training", ["no order in the text"]),
        ([3.06, 3.05, 3.05, 3.05], "training", ["plateau"]),  # below 0.99 x 3.09
        ([3.5, 3.3, 3.2, 3.1], "training", []),
        ([3.5, 3.3, 3.2, 3.1], "finished", ["nothing learned"]),
        ([3.5, 3.3, 3.2, 3.05], "finished", []),
        ([4.0], "stopped", ["nothing learned"]),  # of one point it is not known where it goes
        ([2.0], "stopped", []),
    ],
)
def test_a_model_that_guesses_by_frequency_is_named(losses, state, expected):
    events = curve(losses, train=3.1)
    assert kinds(config_with(), STATUS | {"state": state}, events) == expected
    unknown = {key: value for key, value in STATUS.items() if key != "unigram_entropy"}
    assert set(kinds(config_with(), unknown | {"state": state}, events)) <= {"plateau"}


def test_a_plateau_says_whether_the_text_or_the_model_is_the_limit():
    losses = [2.4, 2.0, 1.99, 1.99]
    for train, setting in ((1.5, {"dropout": 0.1}), (1.95, {"d_model": 256})):
        [found] = diagnose(config_with(), STATUS, curve(losses, train=train))
        assert (found.kind, suggested(found.advice)) == ("plateau", setting)


@pytest.mark.parametrize(("bits", "is_told"), [(0.999, True), (1.0, False)])
def test_a_validation_that_is_too_good_is_not_believed(bits, is_told):
    events = curve([2.0, 1.5])
    events[-1]["val_bits_per_byte"] = bits
    assert kinds(config_with(), STATUS, events) == ["validation text known"] * is_told


def test_at_most_two_things_are_said_and_never_that_more_steps_help_a_text_known_by_heart():
    events = curve([2.0, 2.2, 2.3])
    config = config_with(learning_rate=0.5, steps=300)
    assert kinds(config, STATUS, events) == ["learning rate too high", "overfitting"]


@pytest.mark.parametrize(
    ("losses", "train", "kind_of_text"),
    [
        ([3.09] * 10, [3.09] * 10, "no order in the text"),
        ([3.0, 1.0, 0.002, 0.004, 0.004], [3.0, 1.0, 0.002, 0.004, 0.004], "loss rising"),
        ([2.0, 1.0, 1.5, 1.5], [2.0, 0.9, 0.8, 0.7], "overfitting"),
    ],
)
def test_a_task_is_neither_a_plateau_nor_known_by_heart(losses, train, kind_of_text):
    events = [e | {"loss": loss} for e, loss in zip(curve(losses), train, strict=True)]
    assert kinds(config_with(), STATUS, events) == [kind_of_text]
    assert kinds(config_with(data="task:recall"), STATUS, events) == []


def test_a_run_without_a_curve_or_settings_has_no_findings():
    assert diagnose(config_with(), STATUS, []) == []
    assert diagnose(None, STATUS, curve([2.0, 2.2, 2.3])) == []
    assert diagnose(config_with(), {}, curve([2.0, 1.8, 1.6])) == []
