"""Flags that follow from the settings: one per field of a config."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_lm.data import texts
from keras_lm.settings.checks import Checked, help_of
from keras_lm.settings.config import DataConfig, ModelConfig, TrainingConfig
from keras_lm.settings.longer import Longer
from keras_lm.settings.presets import PRESETS
from keras_lm.system import paths

RUN_CONFIGS: tuple[type[Checked], ...] = (ModelConfig, DataConfig, TrainingConfig)


def typed_path(word: str) -> Path:
    """The absolute path that was typed; an empty one is an unset variable, not a folder."""
    if not word:
        raise argparse.ArgumentTypeError("expected a name, but got an empty one")
    return paths.absolute(word)


class Several(argparse.Action):
    """Joins the names of several texts into one value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Called by argparse when the flag is read."""
        setattr(namespace, self.dest, texts.SEVERAL.join(values or ()))


def add_config_flags(parser: argparse.ArgumentParser, config: type[Checked]) -> None:
    """One flag per field, named like it with hyphens; absent flags leave no trace."""
    group = parser.add_argument_group(config.__name__)
    for spec in config.specs():
        if (config, spec.name) == (ModelConfig, "vocab_size"):  # the text decides
            continue
        flag = "--" + spec.name.replace("_", "-")
        options: dict[str, Any] = {"help": help_of(spec).replace("%", "%%")}
        if (config, spec.name) == (DataConfig, "data"):
            options |= {"action": Several, "nargs": "+", "metavar": "TEXT"}
            options["help"] += " Several are joined; - alone reads standard input."
        elif spec.type is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options |= {"type": spec.type, "choices": spec.metadata["choices"], "metavar": "VALUE"}
        group.add_argument(flag, default=argparse.SUPPRESS, **options)


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that describe a run."""
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--preset", choices=PRESETS, help="What the flags start from.")
    start.add_argument(
        "--like", type=typed_path, help="Another run's folder: start from its settings."
    )
    for config in RUN_CONFIGS:
        add_config_flags(parser, config)


def add_longer_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say by how much a run is trained longer."""
    longer = parser.add_mutually_exclusive_group()
    longer.add_argument(
        "--steps",
        type=int,
        metavar="MORE",
        help="Train this many more steps, even if the run is finished: the learning rate "
        "begins again where it is, rises to its peak and falls.",
    )
    longer.add_argument(
        "--max-seconds", type=float, metavar="MORE", help="The same for this many more seconds."
    )


def longer_by(arguments: argparse.Namespace) -> Longer | None:
    """What the flags of `add_longer_flags` say; None without any."""
    if arguments.steps is None and arguments.max_seconds is None:
        return None
    return Longer(arguments.steps or 0, arguments.max_seconds or 0.0)


def has_run_flags(arguments: argparse.Namespace) -> bool:
    """Whether a flag of `add_run_flags` was typed."""
    typed = [given(arguments, config) for config in RUN_CONFIGS]
    return any(typed) or bool(arguments.preset or arguments.like)


def given(arguments: argparse.Namespace, config: type[Checked]) -> dict[str, Any]:
    """The fields of `config` that were typed."""
    names = {spec.name for spec in config.specs()}
    return {name: value for name, value in vars(arguments).items() if name in names}
