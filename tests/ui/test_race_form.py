"""The form of a race, without a browser: any setting, the values it begins with, and the costs."""

import dataclasses

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from keras_lm.runs.race_config import OFFERED, PARTS, SETTINGS, RaceConfig
from keras_lm.settings.estimates import Speed
from keras_lm.settings.presets import ORIGINAL, QUICK_START, settings_of
from keras_lm.system.paths import RUNS_VARIABLE
from keras_lm.ui.pages import race
from keras_lm.ui.parts.race_form import OTHER, values_around
from keras_lm.ui.reach import STYLED
from keras_lm.ui.services import TextFacts

PROGRAM = "from keras_lm.ui.pages import race\nrace.page()"
NUMBERS = [n for n in OFFERED if PARTS[SETTINGS[n]].spec(n).type in (int, float)]


def test_any_setting_has_a_form(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    st.cache_resource.clear()
    page = AppTest.from_string(PROGRAM, default_timeout=60)
    page.session_state[STYLED] = True
    page.session_state["race.preset"] = OTHER
    page.run()
    assert page.selectbox(key="race.setting").options == OFFERED
    for name in OFFERED:
        page.selectbox(key="race.setting").set_value(name).run()
        assert not page.exception, name
    st.cache_resource.clear()


@pytest.mark.parametrize("config", [QUICK_START, ORIGINAL], ids=["quick-start", "original"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_race_of_numbers_begins_with_some_that_may_be_raced(config, name):
    spec, usual = PARTS[SETTINGS[name]].spec(name), settings_of(config)[f"{SETTINGS[name]}.{name}"]
    values = values_around(usual, spec)
    assert len({f"{value:g}" for value in values}) == len(values) >= 2 and usual in values
    assert all(spec.metadata["low"] <= value <= spec.metadata["high"] for value in values)


def test_each_entry_costs_what_its_own_text_and_context_do(monkeypatch):
    asked = []

    def facts(data, context_length):
        asked.append((data.tokenizer, context_length))
        return TextFacts(900, 1_000_000, 100_000, 3.0, "")

    monkeypatch.setattr(race, "text_facts", facts)
    monkeypatch.setattr(race, "machine_speed", Speed)
    base = dataclasses.replace(ORIGINAL, model=ORIGINAL.model.changed(context_length=64))
    race.costs(RaceConfig(base, "tokenizer", ("char", "gpt2"), (1,)))
    race.costs(RaceConfig(base, "context_length", (32, 64), (3,)))
    assert asked == [("char", 64), ("gpt2", 64), ("gpt2", 32), ("gpt2", 64)]
