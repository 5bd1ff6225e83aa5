"""`report`: a run or a race as one HTML file."""

import argparse
from pathlib import Path
from typing import Any

from keras_lm.commands.flags import typed_path
from keras_lm.commands.folders import write_out
from keras_lm.runs.race import Race
from keras_lm.runs.supervisor import RunSummary, Supervisor
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import RunConfig
from keras_lm.storage.run_folder import INTERRUPTED, RunFolder


def add_parser(commands: Any) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser("report", help="write a run or a race as one HTML file")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run-dir", type=typed_path, help="The run's folder.")
    source.add_argument("--race-dir", type=typed_path, help="The race's folder.")
    parser.add_argument("--out", type=typed_path, required=True, help="The HTML file to write.")


def report(arguments: argparse.Namespace) -> int:
    """Writes the file, which may replace an earlier report, but nothing else."""
    # Drawing takes a library that no other command needs.
    from keras_lm.presentation.report import is_report, race_report, run_report

    out: Path = arguments.out
    if out.exists() and not is_report(out):
        raise ConfigError(f"--out must name a new file or an earlier report, but {out} is neither.")
    if arguments.race_dir:
        race = Race(arguments.race_dir, Supervisor(arguments.race_dir))
        if not race.exists:
            raise ConfigError(f"There is no race in {race.path}: name a race's folder.")
        content = race_report(race)
    else:
        folder = RunFolder(arguments.run_dir)
        if not folder.holds_run:
            raise ConfigError(f"There is no run in {folder.path}: name a run's folder.")
        content = run_report(folder, summary_of(folder))
    write_out(out, content.encode())
    return 0


def summary_of(folder: RunFolder) -> RunSummary:
    """A run in a folder of any name, as it stands there."""
    status, damage = folder.status_and_damage()
    config = RunConfig.from_dict(folder.read_config())
    return RunSummary(folder.run_id, status.get("state", INTERRUPTED), config, status, damage)
