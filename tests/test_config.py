"""Configs: every field's type and range, checks across fields, reading from JSON, presets."""

import dataclasses
import json
import math

import pytest

from keras_lm.config import (
    ConfigError,
    DataConfig,
    GenerationConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from keras_lm.presets import PRESETS

CLASSES = [ModelConfig, DataConfig, TrainingConfig, GenerationConfig]
FIELDS = [
    pytest.param(cls, spec, id=f"{cls.__name__}.{spec.name}")
    for cls in CLASSES
    for spec in dataclasses.fields(cls)
]
NUMBERS = [param for param in FIELDS if param.values[1].type in (int, float)]
# What else has to change so that the field may take its whole range.
COMPANIONS = {
    "d_model": {"num_heads": 1, "positions": "learned"},
    "num_heads": {"d_model": 256, "positions": "learned"},
    "learning_rate": {"min_learning_rate": 0.0},
    "min_learning_rate": {"learning_rate": 1.0},
}
NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def make(cls, spec, value):
    return cls(**{**COMPANIONS.get(spec.name, {}), spec.name: value})


def neighbour(spec, value, direction):
    """The next value of the field's type beyond `value`."""
    return value + direction if spec.type is int else math.nextafter(value, direction * math.inf)


@pytest.mark.parametrize(("cls", "spec"), FIELDS)
def test_every_field_has_a_help_text_and_a_default_that_fits(cls, spec):
    assert spec.metadata["help"].endswith(".")
    assert getattr(cls(), spec.name) == spec.default


@pytest.mark.parametrize(("cls", "spec"), NUMBERS)
def test_every_number_has_a_range(cls, spec):
    assert spec.metadata["low"] < spec.metadata["high"]


@pytest.mark.parametrize(("cls", "spec"), NUMBERS)
@pytest.mark.parametrize(("end", "outwards"), [("low", -1), ("high", 1)])
def test_a_number_may_reach_its_bounds_but_not_pass_them(cls, spec, end, outwards):
    bound = spec.type(spec.metadata[end])
    assert getattr(make(cls, spec, bound), spec.name) == bound
    inside = neighbour(spec, bound, -outwards)
    if spec.name != "num_heads":  # there it would not divide d_model
        assert getattr(make(cls, spec, inside), spec.name) == inside
    with pytest.raises(ConfigError, match=rf"^{cls.__name__}\.{spec.name} must be from .* came\.$"):
        make(cls, spec, neighbour(spec, bound, outwards))


@pytest.mark.parametrize(("cls", "spec"), FIELDS)
def test_a_value_of_another_type_is_refused(cls, spec):
    wrong = [None, [], {}, 1j]
    wrong += [] if spec.type is str else ["1", "true"]
    wrong += [] if spec.type is bool else [True]
    wrong += [] if spec.type in (int, float) else [0, 1.0]
    wrong += [1.0] if spec.type is int else []
    for value in wrong:
        expected = rf"^{cls.__name__}\.{spec.name} must be {NAMES[spec.type]}, but .* came\.$"
        with pytest.raises(ConfigError, match=expected):
            make(cls, spec, value)


@pytest.mark.parametrize(("cls", "spec"), NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_may_be_infinite_or_undefined(cls, spec, value):
    with pytest.raises(
        ConfigError, match=f"{spec.name} must be {NAMES[spec.type]}, but -?(nan|inf)"
    ):
        make(cls, spec, value)


@pytest.mark.parametrize(("cls", "spec"), NUMBERS)
@pytest.mark.parametrize("value", [10**400, -(10**400)], ids=["huge", "minus huge"])
def test_a_whole_number_larger_than_any_float_is_refused_in_a_short_sentence(cls, spec, value):
    with pytest.raises(ConfigError, match=f"{spec.name} must be") as raised:
        make(cls, spec, value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(("cls", "spec"), FIELDS)
def test_a_choice_takes_its_choices_only(cls, spec):
    choices = spec.metadata["choices"]
    if choices is None:
        return
    assert [getattr(make(cls, spec, choice), spec.name) for choice in choices] == list(choices)
    with pytest.raises(ConfigError, match=f"{spec.name} must be one of {', '.join(choices)}, but"):
        make(cls, spec, choices[0].upper())


@pytest.mark.parametrize(("d_model", "num_heads"), [(29, 3), (31, 3), (2, 3)])
def test_heads_must_share_the_width_evenly_and_the_advice_is_good(d_model, num_heads):
    with pytest.raises(ConfigError, match="d_model must be a multiple of num_heads") as raised:
        ModelConfig(d_model=d_model, num_heads=num_heads)
    advice = int(str(raised.value).rstrip(".").split()[-1])
    assert ModelConfig(d_model=advice, num_heads=num_heads, positions="learned").head_dim > 0


def test_rotary_positions_need_an_even_head_size_and_learned_ones_do_not():
    with pytest.raises(ConfigError, match="even head size .* 21 / 3 = 7"):
        ModelConfig(d_model=21, num_heads=3)
    assert ModelConfig(d_model=21, num_heads=3, positions="learned").head_dim == 7
    assert ModelConfig(d_model=18, num_heads=3).head_dim == 6


def test_the_learning_rate_may_end_at_its_peak_but_not_above():
    TrainingConfig(learning_rate=3e-4, min_learning_rate=3e-4)
    with pytest.raises(ConfigError, match="min_learning_rate must not exceed learning_rate"):
        TrainingConfig(learning_rate=3e-4, min_learning_rate=math.nextafter(3e-4, 1))


@pytest.mark.parametrize("cls", CLASSES)
def test_a_config_is_frozen(cls):
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), name, getattr(cls(), name))


@pytest.mark.parametrize("cls", CLASSES)
def test_from_dict_refuses_unknown_keys_and_what_is_no_object(cls):
    with pytest.raises(ConfigError, match=f"^{cls.__name__} has no field 'surprise'; remove it.$"):
        cls.from_dict({"surprise": 1})
    for value in (None, [], "x" * 1000, 1):
        with pytest.raises(ConfigError, match=f"^{cls.__name__} must be a JSON object") as raised:
            cls.from_dict(value)
        assert len(str(raised.value)) < 150


def test_from_dict_fills_in_the_defaults():
    assert GenerationConfig.from_dict({"top_k": 3}) == GenerationConfig(top_k=3)


RUN = RunConfig(
    ModelConfig(vocab_size=23, context_length=11, d_model=30, num_heads=3, dropout=0.1),
    DataConfig(data="Bücher/текст.txt", tokenizer="gpt2", max_text_mb=0.3),
    TrainingConfig(steps=7, learning_rate=3e-4, epsilon=1e-12, sample_prompt='"\n\\ é'),
)


@pytest.mark.parametrize("config", [RUN, *PRESETS.values()], ids=["own", *PRESETS])
def test_a_run_config_comes_back_from_json_as_it_was(config):
    text = json.dumps(config.to_dict(), allow_nan=False)
    assert RunConfig.from_dict(json.loads(text)) == config


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"schema": None}, {"model": None}, {"data": []}, {"training": 1}]
)
def test_a_run_config_of_another_kind_is_refused(change):
    with pytest.raises(ConfigError, match='needs "schema": 1|must be a JSON object'):
        RunConfig.from_dict(RUN.to_dict() | change)


@pytest.mark.parametrize("value", [None, [], "x", {}])
def test_a_run_config_must_be_an_object_with_a_schema(value):
    with pytest.raises(ConfigError, match='needs "schema": 1'):
        RunConfig.from_dict(value)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_leaves_the_vocabulary_to_the_text(name):
    assert PRESETS[name].model.vocab_size == 0


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_texts_that_no_page_can_show_are_refused(text):
    for make in (lambda: DataConfig(data=text), lambda: TrainingConfig(sample_prompt=text)):
        with pytest.raises(ConfigError, match="must have a UTF-8 form, but '.ud"):
            make()
    assert DataConfig(data="\ud7ff\ue000").data
