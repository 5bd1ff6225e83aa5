"""The commands that make a run or a race again."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from keras_lm.data.texts import TEXTS
from keras_lm.runs.race_config import RaceConfig, parse_values
from keras_lm.settings.config import DataConfig, RunConfig
from keras_lm.settings.data_config import TASK_NAMES
from keras_lm.settings.longer import Longer
from keras_lm.settings.presets import nearest_preset
from keras_lm.settings.training_config import MOST_STEPS


def train_command(config: RunConfig) -> str:
    """The command that trains the same run again.

    Example:
        >>> from keras_lm.settings.presets import ORIGINAL
        >>> train_command(ORIGINAL)
        'keras-lm train --run-dir run --preset original --data sense-and-sensibility'
    """
    return shlex.join(["keras-lm", "train", "--run-dir", "run", *_flags(config)])


def longer_commands(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """The commands that train the same run longer, as often as it was; each gives its steps.

    Args:
        events: of the run's folder.

    Example:
        >>> longer_commands([{"kind": "plan", "step": 400, "begin": 400, "steps": 600}])
        ['keras-lm resume --run-dir run --steps 200']
    """
    plans = [event for event in events if event["kind"] == "plan" and event.get("begin")]
    planned: dict[int, int] = {}
    for plan in plans:  # by the clock the last end counts, else the first: patience stops it again
        if plan.get("deadline"):
            planned[plan["begin"]] = plan["steps"]
        planned.setdefault(plan["begin"], plan["steps"])
    later = [*[*planned][1:], MOST_STEPS]  # where each was trained longer again, if it was
    ends = {begin: min(planned[begin], end) for begin, end in zip(planned, later, strict=False)}
    more = [Longer(end - begin) for begin, end in ends.items() if begin < end < MOST_STEPS]
    return [shlex.join(["keras-lm", "resume", "--run-dir", "run", *each.flags]) for each in more]


def race_command(race: RaceConfig) -> str:
    """The command that runs the same race again; "" where no command can name its values."""
    values = ",".join(map(str, race.values))
    words = [word.strip() for word in values.split(",")]
    if len(words) != len(race.values) or parse_values(race.setting, words) != race.values:
        return ""  # a value has a comma in it, or blanks around it
    seeds = ",".join(map(str, race.seeds))
    what = [f"--vary={race.setting}={values}", f"--seeds={seeds}", "--race-dir", "race"]
    return shlex.join(["keras-lm", "race", *what, *_flags(race.base)])


def _flags(config: RunConfig) -> list[str]:
    """The text, the nearest preset and the flags of what differs from it."""
    preset, changes = nearest_preset(config)
    flags = ["--preset", preset, "--data", *config.data.data.split("\n")]
    for name in ("encoding", "title", "init_from"):  # what no preset has
        value = getattr(config.data, name)
        flags += _flag(name, value) if value else []
    data, usual = config.data, DataConfig
    is_own = not {*data.data.split("\n")} <= {*TEXTS, *TASK_NAMES}
    if data.text_field != usual.text_field and (data.text_field or is_own):
        flags += _flag("text_field", data.text_field)
    is_other = data.shard_from_mb != usual.shard_from_mb
    if is_other and min(data.shard_from_mb, usual.shard_from_mb) < data.max_text_mb:
        flags += _flag("shard_from_mb", data.shard_from_mb)
    if data.cut != usual.cut:
        flags += _flag("cut", data.cut)
    for key, value in changes.items():
        flags += _flag(key.partition(".")[2], value)
    return flags


def _flag(name: str, value: Any) -> list[str]:
    """A setting as its flag."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if str(value).startswith("-"):  # by itself it would be taken for a flag
        return [f"--{name}={value}"]
    return [f"--{name}", str(value)]
