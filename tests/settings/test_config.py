"""Configs: every field's type and range, checks across fields, reading from JSON, presets."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from keras_lm.settings.config import (
    ConfigError,
    DataConfig,
    GenerationConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from keras_lm.settings.presets import PRESETS
from keras_lm.settings.variants import NORMS, REGISTRIES

CLASSES = [ModelConfig, DataConfig, TrainingConfig, GenerationConfig]
FIELDS = [
    pytest.param(cls, spec, id=f"{cls.__name__}.{spec.name}")
    for cls in CLASSES
    for spec in cls.specs()
]
NUMBERS = [param for param in FIELDS if param.values[1].type in (int, float)]
CHOICES = [param for param in FIELDS if param.values[1].metadata["choices"]]
# What else has to change so that the field may take its whole range.
COMPANIONS = {
    "d_model": {"num_heads": 1, "positions": "learned"},
    "num_heads": {"d_model": 256, "positions": "learned"},
    "learning_rate": {"min_learning_rate": 0.0},
    "min_learning_rate": {"learning_rate": 1.0},
}
for choice, registry in {
    **REGISTRIES,
    **DataConfig.registries,
}.items():  # an own option counts where its variant is chosen
    for name, variant in registry.items():
        COMPANIONS |= {option.name: {choice: name} for option in variant.option_specs()}
NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def make(cls, spec, value):
    return cls.from_dict({**COMPANIONS.get(spec.name, {}), spec.name: value})


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
    with pytest.raises(
        ConfigError, match=rf"^{cls.__name__}\.{spec.name} must be between .* got .*\.$"
    ):
        make(cls, spec, neighbour(spec, bound, outwards))


@pytest.mark.parametrize(("cls", "spec"), FIELDS)
def test_a_value_of_another_type_is_refused(cls, spec):
    wrong = [None, [], {}, 1j]
    wrong += [] if spec.type is str else ["1", "true"]
    wrong += [] if spec.type is bool else [True]
    wrong += [] if spec.type in (int, float) else [0, 1.0]
    wrong += [1.0] if spec.type is int else []
    for value in wrong:
        expected = rf"^{cls.__name__}\.{spec.name} must be {NAMES[spec.type]}, but got .*\.$"
        with pytest.raises(ConfigError, match=expected):
            make(cls, spec, value)


@pytest.mark.parametrize(("cls", "spec"), NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_may_be_infinite_or_undefined(cls, spec, value):
    with pytest.raises(
        ConfigError, match=f"{spec.name} must be {NAMES[spec.type]}, but got -?(nan|inf)"
    ):
        make(cls, spec, value)


@pytest.mark.parametrize(("cls", "spec"), NUMBERS)
@pytest.mark.parametrize("value", [10**400, -(10**400)], ids=["huge", "minus huge"])
def test_a_whole_number_larger_than_any_float_is_refused_in_a_short_sentence(cls, spec, value):
    with pytest.raises(ConfigError, match=f"{spec.name} must be") as raised:
        make(cls, spec, value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(("cls", "spec"), CHOICES)
def test_a_choice_takes_its_choices_only(cls, spec):
    choices = spec.metadata["choices"]
    assert [getattr(make(cls, spec, choice), spec.name) for choice in choices] == list(choices)
    with pytest.raises(ConfigError, match=f"{spec.name} must be one of {', '.join(choices)}, but"):
        make(cls, spec, [*choices][0].upper())


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("num_heads", [1, 2, 3, 7, 64, 255, 256])
def test_the_advice_about_a_width_that_heads_cannot_share_is_good(num_heads, positions):
    refused = 0
    for d_model in [*range(2, 130), *range(8_000, 8_193, 3), 8_192]:
        shape = {"d_model": d_model, "num_heads": num_heads, "positions": positions}
        try:
            ModelConfig(**shape)
        except ConfigError as error:
            refused += 1
            message = str(error)
            advice = int(re.search(r"for example d_model (\d+)\.$", message)[1])
            assert ModelConfig(**shape | {"d_model": advice}).d_model == advice
            assert abs(advice - d_model) <= 2 * num_heads
            if "choose positions learned" in message:
                ModelConfig(**shape | {"positions": "learned"})
    assert bool(refused) == ((num_heads, positions) != (1, "learned"))


def test_a_width_that_heads_cannot_share_is_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="d_model must be a multiple of num_heads, but 100 is"):
        ModelConfig(d_model=100, num_heads=3)
    with pytest.raises(ConfigError, match="even head size .* 21 / 3 = 7"):
        ModelConfig(d_model=21, num_heads=3)
    assert ModelConfig(d_model=21, num_heads=3, positions="learned").head_dim == 7
    assert ModelConfig(d_model=18, num_heads=3).head_dim == 6


def test_the_learning_rate_may_end_at_its_peak_but_not_above():
    TrainingConfig(learning_rate=3e-4, min_learning_rate=3e-4)
    rate = 1.2345678e-4
    with pytest.raises(ConfigError, match="min_learning_rate must not exceed") as refused:
        TrainingConfig(learning_rate=rate, min_learning_rate=math.nextafter(rate, 1))
    advice = float(str(refused.value).rstrip(".").split()[-1])
    assert TrainingConfig(learning_rate=rate, min_learning_rate=advice).min_learning_rate == advice


@pytest.mark.parametrize(
    ("make", "stored"),
    [
        (lambda: ModelConfig(vocab_size=np.int64(65)).vocab_size, 65),
        (lambda: ModelConfig(num_heads=np.uint8(2)).num_heads, 2),
        (lambda: ModelConfig(dropout=np.float32(0.5)).dropout, 0.5),
        (lambda: ModelConfig(dropout=np.int32(0)).dropout, 0),
        (lambda: ModelConfig(qk_norm=np.True_).qk_norm, True),
        (lambda: DataConfig(data=np.str_("alice")).data, "alice"),
        (lambda: GenerationConfig(max_new_tokens=np.array(5)).max_new_tokens, 5),
        (lambda: GenerationConfig.from_dict({"top_p": np.float64(0.5)}).top_p, 0.5),
    ],
)
def test_numbers_of_numpy_are_kept_as_plain_ones(make, stored):
    value = make()
    assert value == stored and type(value) is type(stored)


@pytest.mark.parametrize(
    "value", [np.float64(2), np.True_, np.array([2]), np.int64(0), np.float64("nan")]
)
def test_what_is_no_whole_number_in_numpy_is_none_here(value):
    with pytest.raises(ConfigError, match="num_heads must be"):
        ModelConfig(num_heads=value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingConfig(steps=0), "steps must be between 1 and 10,000,000, but got 0."),
        (lambda: ModelConfig(d_model=12_345), "between 2 and 8,192, but got 12,345."),
        (lambda: ModelConfig(dropout=0.95), "dropout must be between 0 and 0.9, but got 0.95."),
        (lambda: TrainingConfig(learning_rate=0), "between 1e-07 and 1, but got 0."),
        (lambda: ModelConfig(norm="batch"), f"one of {', '.join(NORMS)}, but got 'batch'."),
    ],
)
def test_a_refusal_shows_numbers_as_people_write_them(make, message):
    with pytest.raises(ConfigError) as refused:
        make()
    assert str(refused.value).endswith(message)


def warnings(model=None, **training):
    return RunConfig(
        ModelConfig(**model or {}), DataConfig(), TrainingConfig(**training)
    ).warnings()


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_no_preset_has_a_warning(config):
    assert config.warnings() == []


@pytest.mark.parametrize(
    ("steps", "warmup_steps", "reached"),
    [(60, 100, "60%"), (100, 100, "100%"), (1, 100, "1%"), (99, 100, "99%")],
)
def test_a_warm_up_that_fills_the_run_is_said_and_the_advice_is_good(steps, warmup_steps, reached):
    (sentence,) = warnings(steps=steps, warmup_steps=warmup_steps)
    assert f"to {reached} of its peak" in sentence
    advice = int(sentence.rstrip(".").split()[-1])
    assert warnings(steps=steps, warmup_steps=advice) == []
    assert warnings(steps=warmup_steps + 1, warmup_steps=warmup_steps) == []


@pytest.mark.parametrize(
    ("context_length", "chunk_length"), [(128, 64), (2, 1), (3, 2), (4, 2), (65_536, 65_536)]
)
def test_slots_that_are_never_used_are_said_and_the_advice_is_good(context_length, chunk_length):
    shape = {"attention": "linear", "context_length": context_length, "chunk_length": chunk_length}
    (sentence,) = warnings(shape)
    assert "never uses its slots" in sentence
    advice = re.findall(r"(\w+) (?:above|of at most) ([\d,]+)", sentence)
    for name, number in advice:
        value = int(number.replace(",", "")) + (name == "context_length")
        assert warnings(shape | {name: value}) == []
    assert warnings(shape | {"attention": "standard"}) == []
    assert bool(advice) == (context_length > 2 or chunk_length < 2**15)


def test_slots_that_are_used_are_no_reason_for_a_warning():
    shape = {"attention": "linear", "context_length": 129, "chunk_length": 64}
    assert warnings(shape) == []


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
