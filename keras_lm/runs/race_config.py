"""What a race compares: one setting, its values and the seeds, and what cannot be raced."""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from keras_lm.settings.checks import ConfigError, check_value, limits_of
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.training_config import MULTI_WORKER

RACE_FILE = "race.json"
SCHEMA = 1
FEWEST, MOST = 2, 6  # entries
MOST_SEEDS = 20
PARTS = {"model": ModelConfig, "data": DataConfig, "training": TrainingConfig}
SETTINGS = {  # by the name of its flag: the part of the config that it is in
    spec.name: part for part, kind in PARTS.items() for spec in kind.specs()
}
# Another text, or another part of it, is another task; a seed is what is repeated; the budget is
# the same for all.
NEVER = {"vocab_size", "data", "encoding", "text_field", "title", "cleaning", "separator"}
NEVER |= {"max_text_mb", "shard_from_mb", "task_length", "task_test_length"}
NEVER |= {"validation_fraction", "cut", "seed", "max_seconds", "max_tokens", "count_start"}
# What earlier versions raced, though it compares nothing.
POINTLESS = {
    "steps": "all runs have the same budget",
    "init_from": "all runs go on with the same model",
    "sample_prompt": "it changes no run",
}
OFFERED = [name for name in SETTINGS if name not in NEVER and name not in POINTLESS]


@dataclass(frozen=True)
class RaceConfig:
    """What a race compares; it checks itself, and a ConfigError says what cannot be raced.

    Attributes:
        base: the run that all entries share, but for one setting and the seed.
        setting: the name of what varies, as its flag has it with underscores.
        values: two to six different values of it.
        seeds: each is run with every value.

    Example:
        >>> from keras_lm.settings.presets import PRESETS
        >>> race = RaceConfig(PRESETS["quick-start"], "norm", ("rmsnorm", "layernorm"), (1, 2))
        >>> race.names
        ['norm=rmsnorm', 'norm=layernorm']
    """

    base: RunConfig
    setting: str
    values: tuple
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.setting not in SETTINGS or self.setting in NEVER:
            allowed = ", ".join(OFFERED)
            raise ConfigError(f"A race can vary one of {allowed}, but got {self.setting!r:.40}.")
        spec = PARTS[SETTINGS[self.setting]].spec(self.setting)
        for value in self.values:
            check_value(self.setting, value, spec.type, **limits_of(spec))
        if not FEWEST <= len(set(self.values)) == len(self.values) <= MOST:
            raise ConfigError(
                f"A race needs {FEWEST} to {MOST} different values of {self.setting}, but got "
                f"{', '.join(map(str, self.values))!r:.80}."
            )
        if not 1 <= len(set(self.seeds)) == len(self.seeds) <= MOST_SEEDS:
            raise ConfigError(
                f"A race needs 1 to {MOST_SEEDS} different seeds, but got "
                f"{', '.join(map(str, self.seeds))!r:.80}."
            )
        is_free = SETTINGS[self.setting] == "training" or self.setting == "dropout"
        if self.base.data.init_from and not is_free:
            raise ConfigError(
                "A race of runs that go on with a model can vary a setting of the training or "
                f"dropout, but got {self.setting!r:.40}: the model decides that."
            )
        first = self.seeds[0]
        for a, b in itertools.combinations(self.values, 2):  # raises what does not fit together
            if self.config_of(a, first) == self.config_of(b, first):
                raise ConfigError(
                    f"Each value of {self.setting} must give another run, but {a} and {b} give the "
                    f"same with {self.base.data.label}: vary another setting."
                )

    def check_new(self) -> None:
        """ConfigError for a race that earlier versions made, though it compares nothing."""
        if reason := POINTLESS.get(self.setting):
            raise ConfigError(f"A race cannot vary {self.setting}: {reason}.")
        if MULTI_WORKER in (self.base.training.strategy, *self.values):
            raise ConfigError(
                "A race starts its runs on this machine, but the strategy multi-worker needs "
                "processes on several: choose none or mirrored."
            )
        if not (self.base.data.task or self.base.data.validation_fraction):
            raise ConfigError(
                "must be above 0 for a race, which compares by what was not trained on, but got 0: "
                "0.1 is usual.",
                "validation_fraction",
            )

    @property
    def names(self) -> list[str]:
        """The entries' names, such as attention=flash."""
        return [self.name(value) for value in self.values]

    def name(self, value: Any) -> str:
        """An entry's name."""
        return f"{self.setting}={value}"

    def config_of(self, value: Any, seed: int) -> RunConfig:
        """The config of the run of one entry and seed."""
        part = SETTINGS[self.setting]
        changed = getattr(self.base, part).changed(**{self.setting: value})
        config = dataclasses.replace(self.base, **{part: changed})
        training = dataclasses.replace(config.training, seed=seed)
        return dataclasses.replace(config, training=training)

    def with_seeds(self, seeds: Sequence[int]) -> Self:
        """The same race with further seeds; those that it has stay."""
        return dataclasses.replace(self, seeds=tuple(dict.fromkeys([*self.seeds, *seeds])))

    def to_dict(self) -> dict[str, Any]:
        """A JSON object for `from_dict`."""
        return {
            "schema": SCHEMA,
            "vary": {"setting": self.setting, "values": [*self.values]},
            "seeds": [*self.seeds],
            "budget": budget_of(self.base.training),
            "config": self.base.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The race that `to_dict` described; ConfigError for anything else."""
        try:
            vary, seeds = data["vary"], tuple(data["seeds"])
            base, setting, values = data["config"], vary["setting"], tuple(vary["values"])
        except (KeyError, TypeError):
            raise ConfigError(
                f"{RACE_FILE} must have vary, seeds and config; write it again with the command "
                "race."
            ) from None
        seeds = tuple(check_value("a seed", seed, int, 0) for seed in seeds)
        return cls(RunConfig.from_dict(base), str(setting), values, seeds)


def budget_of(training: TrainingConfig) -> dict[str, float]:
    """What every run of a race may use: seconds, tokens, or both; else steps.

    Example:
        >>> budget_of(TrainingConfig(steps=300)), budget_of(TrainingConfig(max_seconds=60.0))
        ({'steps': 300}, {'seconds': 60.0})
    """
    budgets = {"seconds": training.max_seconds, "tokens": training.max_tokens}
    return {name: most for name, most in budgets.items() if most} or {"steps": training.steps}


def same_start(config: RunConfig) -> RunConfig:
    """The run whose budget of seconds leaves the start out.

    The first run of a race compiles what the others find in the cache.
    """
    training = config.training
    if training.max_seconds:
        training = training.changed(count_start=False)
    return dataclasses.replace(config, training=training)


def parse_values(setting: str, words: Sequence[str]) -> tuple:
    """The values that words stand for; ConfigError where a setting cannot have one.

    Example:
        >>> parse_values("learning_rate", ["1e-3", "0.01"])
        (0.001, 0.01)
    """
    if setting not in SETTINGS:
        return tuple(words)  # RaceConfig says what is wrong with it
    kind = PARTS[SETTINGS[setting]].spec(setting).type
    truths = {"true": True, "false": False}
    try:
        return tuple(truths[word.lower()] if kind is bool else kind(word) for word in words)
    except (KeyError, ValueError):
        expected = {bool: "true or false", int: "whole numbers", float: "numbers"}[kind]
        raise ConfigError(
            f"The values of {setting} must be {expected}, but got {', '.join(words)!r:.80}."
        ) from None
