"""The form of a new race: what varies, with which seeds, how long."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from keras_lm.runs.preset_races import PRESET_RACES, PresetRace
from keras_lm.runs.race_config import (
    MOST,
    OFFERED,
    PARTS,
    SETTINGS,
    RaceConfig,
    parse_values,
    same_start,
)
from keras_lm.settings import estimates
from keras_lm.settings.config import RunConfig
from keras_lm.ui.parts.draft import OwnText, draft
from keras_lm.ui.parts.run_form import config_of
from keras_lm.ui.services import machine_speed, text_facts

MOST_SEEDS, VALIDATIONS = 10, 10
OTHER = "Another setting"


class Budget(NamedTuple):
    """What each run of a race may use: the setting that limits it, and what the form offers."""

    field: str
    low: int
    high: int
    usual: int
    step: int


PRESET_HELP = (
    "The last two train on a task with exact answers, recall: of 12 pairs, of which linear "
    "attention sees only the last exactly, and of 16 pairs after training on 12."
)
BUDGETS = {
    "Steps": Budget("steps", 10, 1_000_000, 300, 50),
    "Tokens": Budget("max_tokens", 1_000, 10**12, 200_000, 50_000),
    "Seconds": Budget("max_seconds", 1, 1_000_000, 30, 10),
}


def race_form() -> Callable[[], RaceConfig]:
    """Draws the form; returns what gives its race, or raises ValueError with one sentence."""
    preset = chosen_preset()
    base = preset.base if preset else None
    setting, make_values = choose_values(preset)
    seeds = st.slider(
        "Seeds",
        1,
        MOST_SEEDS,
        3,
        key="race.seeds",
        help="Each choice is trained once with each seed. Two are the least for a verdict.",
    )
    chosen = st.pills(
        "Budget",
        [*BUDGETS],
        default="Steps",
        required=True,
        key="race.budget",
        help="What each run may use: the same steps, the same tokens, or the same seconds after "
        "its first step is compiled.",
    )
    budget = BUDGETS[chosen]
    most = st.number_input(
        f"{chosen} of each run",
        budget.low,
        budget.high,
        base.training.steps if base and chosen == "Steps" else budget.usual,
        budget.step,
        key=f"race.{chosen.lower()}{'.' + base.data.data if base else ''}",
    )
    all_seeds = tuple(range(1, seeds + 1))

    def make_config() -> RaceConfig:
        made = RaceConfig(base_config(base, chosen, int(most)), setting, make_values(), all_seeds)
        made.check_new()
        return made

    return make_config


def chosen_preset() -> PresetRace | None:
    """The race to start from; None: another setting is to vary."""
    usual = next(iter(PRESET_RACES))
    names = [*PRESET_RACES, OTHER]
    chosen = st.pills(
        "What varies", names, default=usual, required=True, key="race.preset", help=PRESET_HELP
    )
    return PRESET_RACES.get(chosen)


def choose_values(preset: PresetRace | None) -> tuple[str, Callable[[], tuple]]:
    """Which setting varies, and what gives its values, or raises ConfigError."""
    if preset:
        setting = preset.setting
    else:
        setting = st.selectbox("Setting", OFFERED, key="race.setting") or OFFERED[0]
    part = SETTINGS[setting]
    spec = PARTS[part].spec(setting)
    if choices := spec.metadata["offered"] or spec.metadata["choices"]:
        picked = st.multiselect(
            "Choices",
            [*choices],
            [*choices][:MOST],
            key=f"race.values.{setting}",
            max_selections=MOST,
        )
        return setting, lambda: tuple(picked)
    if spec.type is bool:
        return setting, lambda: (False, True)
    usual = draft().values[f"{part}.{setting}"]
    text = st.text_input(
        "Values, separated by commas",
        ", ".join(f"{value:.12g}" for value in values_around(usual, spec)),
        key=f"race.values.{setting}",
    )
    words = [word.strip() for word in text.split(",") if word.strip()]
    return setting, lambda: parse_values(setting, words)


def values_around(usual: float, spec: dataclasses.Field) -> list[float]:
    """A setting's value and others near it, to begin with, in their order.

    Example:
        >>> specs = {name: PARTS[part].spec(name) for name, part in SETTINGS.items()}
        >>> values_around(0.75, specs["learning_rate"]), values_around(1, specs["num_blocks"])
        ([0.25, 0.75], [1, 2])
    """
    least, most = spec.metadata["low"], spec.metadata["high"]
    if spec.type is float:
        others = [usual / 3, usual * 3] if usual else [spec.metadata["step"]]
    else:
        others = [usual // 2] if usual > 1 else [usual + (spec.metadata["step"] or 1)]
    others = [other for other in others if least <= other <= most]
    return sorted({usual, *others})


def base_config(base: RunConfig | None, budget: str, most: int) -> RunConfig:
    """A run with the race's length; MissingText while a text is to come.

    Args:
        base: the run; None: as it is set on the Train page.
        budget: a name in BUDGETS.
        most: how much of it each run may use.
    """
    config = base or config_of(lambda: draft().own.get(draft().text, OwnText("", "")))
    none = {"max_seconds": 0.0, "max_tokens": 0, "patience": 0, "sample_every": 0, "eval_every": 0}
    training = config.training.changed(**none | {BUDGETS[budget].field: most})
    config = same_start(dataclasses.replace(config, training=training))
    steps = config.most_steps
    if config.training.max_seconds:
        facts = text_facts(config.data, config.model.context_length)
        known = config.with_vocab_size(facts.vocab_size)
        steps = estimates.expected_steps(known, machine_speed(), facts.validation_tokens)
    training = config.training.changed(
        warmup_steps=min(training.warmup_steps, steps // 10),
        eval_every=max(1, steps // VALIDATIONS),
    )
    return dataclasses.replace(config, training=training)
