"""What a setting may be: its type, its range, and the sentence that says what is wrong with it."""

import dataclasses
import functools
import math
import re
from collections.abc import Collection
from typing import Any, Self

KINDS = {
    bool: "true or false",
    str: "text",
    int: "a whole number",
    float: "a number",
    dict: "a dict",
}


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one sentence for a person.

    Args:
        problem: the sentence; without its subject where that is a setting.
        name: of the setting, with or without its config: "ModelConfig.d_model".

    Attributes:
        problem: as given, for a page that calls the setting by its label.
        field: the setting's name alone; "" when the sentence is about none.

    Example:
        >>> error = ConfigError("must be at least 1, but got 0.", "TrainingConfig.steps")
        >>> str(error), error.field
        ('TrainingConfig.steps must be at least 1, but got 0.', 'steps')
    """

    def __init__(self, problem: str, name: str = ""):
        super().__init__(f"{name} {problem}" if name else problem)
        self.problem = problem
        self.field = name.rpartition(".")[2]


def field(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Collection[str] | None = None,
    offered: Collection[str] = (),
    label: str = "",
    step: float | None = None,
    suggested: tuple[int, ...] = (),
    slider: tuple[float, float] | None = None,
    neutral: float | None = None,
    group: str = "",
    hidden: str = "",
) -> Any:
    """A dataclass field that knows its allowed values, and how the page offers it.

    Args:
        default: the value when none is given.
        help: what it does, and which values are usual.
        low, high: the least and the greatest value of a number.
        choices: all values of a text; a dict of variants adds their sentences to the help.
        offered: those of the choices that the page offers; none: all of them.
        label: what the page calls it.
        step: of a number, what one click adds.
        suggested: of a number that is chosen among a few, these.
        slider: of a number that is set by a slider, the slider's ends; others may be typed.
        neutral: the value with which it does nothing; None: there is none.
        group: the part of the form it is in; empty: its config's own.
        hidden: why the page does not offer it; empty where it does.
    """
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "offered": offered,
        "label": label,
        "step": step,
        "suggested": suggested,
        "slider": slider,
        "neutral": neutral,
        "group": group,
        "hidden": hidden,
    }
    return dataclasses.field(default=default, metadata=metadata)


def help_of(spec: dataclasses.Field) -> str:
    """The field's help, with a sentence for each variant that it chooses among.

    Example:
        >>> from keras_lm.settings.config import ModelConfig
        >>> help_of(ModelConfig.spec("positions"))[:40]
        'How the model knows the order of tokens.'
    """
    choices = spec.metadata["choices"]
    variants = choices.items() if isinstance(choices, dict) else ()
    return " ".join([spec.metadata["help"], *(f"{name} {v.sentence}" for name, v in variants)])


@functools.cache  # the standard library makes the tuple anew each time, and every config asks often
def fields_of(kind: type) -> tuple[dataclasses.Field, ...]:
    """The fields of a dataclass.

    Example:
        >>> from keras_lm.settings.config import RunConfig
        >>> [spec.name for spec in fields_of(RunConfig)]
        ['model', 'data', 'training']
    """
    return dataclasses.fields(kind)


def limits_of(spec: dataclasses.Field) -> dict[str, Any]:
    """What `check_value` needs to know of the field."""
    return {key: spec.metadata[key] for key in ("low", "high", "choices")}


def plain(value: Any) -> Any:
    """A number or boolean of NumPy as Python's own, which JSON can hold; all else as it is.

    Example:
        >>> import numpy as np
        >>> plain(np.int64(3)), plain("text")
        (3, 'text')
    """
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0
    return value.item() if is_scalar else value


def show_number(value: float) -> str:
    """A number for people; of one that is too long, the beginning.

    Example:
        >>> show_number(10_000_000), show_number(0.5), show_number(1e-7)
        ('10,000,000', '0.5', '1e-07')
    """
    return f"{int(value):,}"[:60] if value == int(value) else repr(value)


def check_value(
    name: str,
    value: Any,
    kind: Any,
    low: float | None = None,
    high: float | None = None,
    choices: Collection[str] | None = None,
) -> Any:
    """`value` as Python's own type; ConfigError unless it is of `kind` and within the limits.

    `kind` is bool, int, float, str or dict.

    Example:
        >>> check_value("steps", 3.0, float, low=1), check_value("steps", 5, int, high=9)
        (3.0, 5)
        >>> check_value("steps", 0, int, low=1)
        Traceback (most recent call last):
        keras_lm.settings.checks.ConfigError: steps must be at least 1, but got 0.
    """
    value = plain(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind in (bool, str, dict):
        fits = isinstance(value, kind)
    else:
        fits = is_number and abs(value) < math.inf and (kind is float or isinstance(value, int))
    if not fits:
        expected = {bool: "true or false", str: "text", int: "a whole number", dict: "a dict"}.get(
            kind, "a number"
        )
        raise ConfigError(f"must be {expected}, but got {value!r:.60}.", name)
    if kind is str and (lone := re.search("[\ud800-\udfff]", str(value))):
        raise ConfigError(f"must have a UTF-8 form, but {lone[0]!r} in it has none.", name)
    if choices and value not in choices:
        raise ConfigError(f"must be one of {', '.join(choices)}, but got {value!r:.60}.", name)
    if (low is not None and value < low) or (high is not None and value > high):
        limits = [show_number(limit) for limit in (low, high) if limit is not None]
        between = f"between {limits[0]} and {limits[1]}" if limits[1:] else f"at least {limits[0]}"
        raise ConfigError(f"must be {between}, but got {show_number(value)}.", name)
    return value


@dataclasses.dataclass(frozen=True)
class Checked:
    """A dataclass that checks each of its fields when it is made, and can be read from JSON."""

    def __post_init__(self) -> None:
        for spec in fields_of(type(self)):
            name = f"{type(self).__name__}.{spec.name}"
            value = check_value(name, getattr(self, spec.name), spec.type, **limits_of(spec))
            object.__setattr__(self, spec.name, value)  # a frozen dataclass allows no other way

    @classmethod
    def specs(cls) -> tuple[dataclasses.Field, ...]:
        """Its settings, each with name, type, default and the metadata of `field`."""
        return fields_of(cls)

    @classmethod
    def spec(cls, name: str) -> dataclasses.Field:
        """The setting of that name."""
        return next(spec for spec in cls.specs() if spec.name == name)

    def to_dict(self) -> dict[str, Any]:
        """A JSON object with a key per setting."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Makes the config from a JSON object; an unknown or mistyped key is a ConfigError."""
        cls.check_keys(values)
        return cls(**values)

    @classmethod
    def check_keys(cls, values: Any) -> None:
        """ConfigError unless `values` is a JSON object with names of settings."""
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.__name__} must be a JSON object, but got {values!r:.60}.")
        known = {spec.name for spec in cls.specs()}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"{cls.__name__} has no field {unknown[0]!r:.60}; remove it.")

    def changed(self, **values: Any) -> Self:
        """The same with other values of some settings."""
        return type(self).from_dict(self.to_dict() | values)


def check_part(name: str, value: Any) -> float:
    """`value` as a fraction that is never the whole: ConfigError outside 0 to below 1.

    Example:
        >>> check_part("dropout", 0.5)
        0.5
    """
    value = check_value(name, value, float, 0.0)
    if value >= 1:
        raise ConfigError(f"must be from 0 to below 1, but got {show_number(value)}.", name)
    return value
