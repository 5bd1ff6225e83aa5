"""What a setting may be: its type, its range, and the sentence that says what is wrong with it."""

import dataclasses
import math
import re
from collections.abc import Collection
from typing import Any, Self


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one sentence for a person."""


def field(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field that knows its help text and its allowed values (`low` to `high`)."""
    metadata = {"help": help, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def plain(value: Any) -> Any:
    """A number or boolean of NumPy as Python's own, which JSON can hold; all else as it is."""
    is_scalar = type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0
    return value.item() if is_scalar else value


def show_number(value: float) -> str:
    """A number for people: 10,000,000, 0.5, 1e-07; of one that is too long, the beginning."""
    return f"{int(value):,}"[:60] if value == int(value) else repr(value)


def check_value(
    name: str,
    value: Any,
    kind: type,
    low: float | None = None,
    high: float | None = None,
    choices: Collection[str] | None = None,
) -> Any:
    """`value` as Python's own type; ConfigError unless it is of `kind` and within the limits."""
    value = plain(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is bool or kind is str:
        fits = isinstance(value, kind)
    else:
        fits = is_number and abs(value) < math.inf and (kind is float or isinstance(value, int))
    if not fits:
        expected = {bool: "true or false", str: "text", int: "a whole number"}.get(kind, "a number")
        raise ConfigError(f"{name} must be {expected}, but got {value!r:.60}.")
    if kind is str and (lone := re.search("[\ud800-\udfff]", value)):
        raise ConfigError(f"{name} must have a UTF-8 form, but {lone[0]!r} in it has none.")
    if choices and value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, but got {value!r:.60}.")
    if (low is not None and value < low) or (high is not None and value > high):
        limits = [show_number(limit) for limit in (low, high) if limit is not None]
        between = f"between {limits[0]} and {limits[1]}" if limits[1:] else f"at least {limits[0]}"
        raise ConfigError(f"{name} must be {between}, but got {show_number(value)}.")
    return value


class Checked:
    """A dataclass that checks each of its fields when it is made, and can be read from JSON."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            name = f"{type(self).__name__}.{spec.name}"
            limits = {key: spec.metadata[key] for key in ("low", "high", "choices")}
            value = check_value(name, getattr(self, spec.name), spec.type, **limits)
            object.__setattr__(self, spec.name, value)  # a frozen dataclass allows no other way

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Makes the config from a JSON object; an unknown or mistyped key is a ConfigError."""
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.__name__} must be a JSON object, but got {values!r:.60}.")
        known = {spec.name for spec in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"{cls.__name__} has no field {unknown[0]!r:.60}; remove it.")
        return cls(**values)


def check_part(name: str, value: Any) -> float:
    """`value` as a part of a whole that is never all of it: ConfigError outside 0 to below 1."""
    value = check_value(name, value, float, 0.0)
    if value >= 1:
        raise ConfigError(f"{name} must be from 0 to below 1, but got {show_number(value)}.")
    return value
