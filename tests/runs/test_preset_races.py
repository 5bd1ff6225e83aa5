"""Races to start from can be raced as they are."""

import pytest

from keras_lm.runs.preset_races import PRESET_RACES
from keras_lm.runs.race_config import MOST, PARTS, SETTINGS, RaceConfig
from keras_lm.settings.presets import QUICK_START


@pytest.mark.parametrize("name", PRESET_RACES)
def test_each_is_a_race(name):
    preset = PRESET_RACES[name]
    spec = PARTS[SETTINGS[preset.setting]].spec(preset.setting)
    values = tuple(spec.metadata["choices"] or (1e-3, 3e-3))[:MOST]
    race = RaceConfig(preset.base or QUICK_START, preset.setting, values, (1, 2))
    assert len(race.names) == len(values) >= 2


def test_recall_reaches_beyond_what_linear_attention_sees_exactly():
    base = PRESET_RACES["Attentions, recall from far"].base
    assert base is not None and base.model.context_length > 3 * 2 * base.model.chunk_length


def test_positions_are_tested_at_another_length():
    base = PRESET_RACES["Positions, longer than trained"].base
    assert base is not None
    trained, tested = base.data.task_lengths
    assert tested > trained
