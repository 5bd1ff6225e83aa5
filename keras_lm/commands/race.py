"""`race`: several runs that differ in one setting, compared when they have ended."""

import argparse
import time
from collections.abc import Callable
from typing import Any

from keras_lm.commands.flags import typed_path
from keras_lm.runs.race import Race, progress_in_words
from keras_lm.runs.race_config import RaceConfig, parse_values, same_start
from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import RunConfig
from keras_lm.storage.belongings import other_names
from keras_lm.system.terminal import printable, report_progress, say

POLL_SECONDS = 0.5
USUAL_SEEDS = (1, 2, 3)
NOT_ALL_FINISHED = 1
EXAMPLE = "--vary attention=standard,flash,linear"


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to the command line, which adds the flags of a run to it."""
    parser = commands.add_parser("race", help="compare runs that differ in one setting")
    parser.add_argument("--race-dir", type=typed_path, required=True, help="The race's folder.")
    parser.add_argument(
        "--vary", metavar="SETTING=VALUE,VALUE", help=f"What differs, such as {EXAMPLE[7:]}."
    )
    parser.add_argument(
        "--seeds",
        metavar="SEED,SEED",
        help="Each value is run with each seed; 1,2,3 if none are named. A race that exists gets "
        "those that it does not have.",
    )
    return parser


def race(
    arguments: argparse.Namespace, new_config: Callable[[], RunConfig], has_flags: bool
) -> int:
    """Starts what is missing, waits, and prints the table and the sentence.

    A race whose folder exists goes on. Ctrl-C stops its runs, and the same command goes on later.

    Args:
        arguments: what was typed.
        new_config: gives the run that the flags of a run describe.
        has_flags: whether there were any.

    Returns:
        0 when every run has finished, else NOT_ALL_FINISHED.
    """
    race = Race(arguments.race_dir, Supervisor(arguments.race_dir))
    if race.exists:
        race.create(old_race(race, arguments, has_flags))
    else:
        race.create(new_race(arguments, new_config))
    race.go_on()
    try:
        wait(race)
    except KeyboardInterrupt:
        race.stop()
        say("The runs are asked to stop; the same command goes on with them.")
        raise
    from keras_lm.presentation.runs_table import result_table  # Pandas, which train need not load

    result = race.write_result()
    print(printable(result_table(result["entries"]).to_string(index=False), keep="\n"))
    print(printable(result["summary"]))
    failures = [f"{e['name']}, {failure}" for e in result["entries"] for failure in e["failed"]]
    for failure in failures:
        say(failure)
    return NOT_ALL_FINISHED if failures else 0


def new_race(arguments: argparse.Namespace, new_config: Callable[[], RunConfig]) -> RaceConfig:
    """What the flags ask for; ConfigError when that is not a race or its folder is in use."""
    setting, equals, values = (arguments.vary or "").partition("=")
    if not equals:
        raise ConfigError(f"A new race needs {EXAMPLE}, but got {arguments.vary or 'nothing'!r}.")
    if found := other_names(arguments.race_dir, []):
        raise ConfigError(
            f"--race-dir must name a new or an empty folder, or one that holds a race, but "
            f"{arguments.race_dir} holds {found[0]!r:.60}: choose another name."
        )
    name = setting.strip().replace("-", "_")
    config = new_config()
    varied = parse_values(name, [value.strip() for value in values.split(",")])
    return RaceConfig(
        config if hasattr(arguments, "count_start") else same_start(config),
        name,
        varied,
        parse_seeds(arguments.seeds) or USUAL_SEEDS,
    )


def old_race(race: Race, arguments: argparse.Namespace, has_flags: bool) -> RaceConfig:
    """The race of the folder with further seeds; ConfigError when more than these is asked for."""
    if arguments.vary or has_flags:
        raise ConfigError(
            f"{race.path} already holds a race, which can only be given more --seeds: choose "
            "another --race-dir, or leave the other flags out."
        )
    return race.read().with_seeds(parse_seeds(arguments.seeds))


def parse_seeds(words: str | None) -> tuple[int, ...]:
    """The seeds that "1,2,3" stands for; ConfigError when one is not a number.

    Example:
        >>> parse_seeds("1,2,3")
        (1, 2, 3)
    """
    try:
        return tuple(int(word) for word in words.split(",")) if words else ()
    except ValueError:
        raise ConfigError(
            f"--seeds must be whole numbers such as 1,2,3, but got {words!r:.60}."
        ) from None


def wait(race: Race) -> None:
    """Returns when no run is active any more; says meanwhile how far they are."""
    shown = None
    while not race.is_over:
        line = progress_in_words(race.runs())
        if line != shown:
            report_progress(line)
            shown = line
        time.sleep(POLL_SECONDS)
    say("")
