"""`queue`: the runs that train and wait, in their order; moves one or takes it out."""

import argparse
from typing import Any

from keras_lm.commands.flags import typed_path
from keras_lm.runs.expected_wait import expected_waits, in_order
from keras_lm.runs.own_pace import slot_speed
from keras_lm.runs.queue import slots_for
from keras_lm.runs.ray_queue import ray_address
from keras_lm.runs.supervisor import RunSummary, Supervisor
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.training_config import MOST_STEPS
from keras_lm.storage.run_folder import MOVES, QUEUED
from keras_lm.system import machine
from keras_lm.system.paths import runs_folder
from keras_lm.system.terminal import printable

HELP = {
    "front": "Move this run before all others that wait.",
    "up": "Move it before the one before it.",
    "down": "Move it behind the one behind it.",
    "stop": "Take it out of the queue, or stop it.",
}


def add_parser(commands: Any) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser("queue", help="list the runs that wait; move or stop one")
    parser.add_argument(
        "--runs-dir", type=typed_path, help="The folder of the runs; the page's if none is named."
    )
    actions = parser.add_mutually_exclusive_group()
    for action, words in HELP.items():
        actions.add_argument(f"--{action}", metavar="RUN", help=words)


def queue(arguments: argparse.Namespace) -> int:
    """Asks a run for what was typed, or prints one line per run that is active."""
    supervisor = Supervisor(arguments.runs_dir or runs_folder())
    active = [run for run in supervisor.summaries() if run.is_active]
    for action in HELP:
        if (typed := getattr(arguments, action)) is not None:
            supervisor.request(_named(typed, active, action).run_id, action)
            return 0
    if not active:
        print("No run trains or waits.")
        return 0
    from keras_lm.presentation.formatting import name_run, show_seconds

    waits = {} if ray_address() else _waits(supervisor, active)
    for run in active:
        if run.state != QUEUED:
            step, steps = run.status.get("step", 0), run.status.get("steps", 0)
            of_all = f" of {steps:,}" if steps < MOST_STEPS else ""
            print(printable(f"{run.run_id}  step {step:,}{of_all}  {name_run(run)}"))
    for number, run in enumerate(in_order(active), 1):
        wait = waits.get(run.run_id)
        begin = "" if wait is None else f", in about {show_seconds(wait)}"
        print(printable(f"{run.run_id}  waits, number {number}{begin}  {name_run(run)}"))
    return 0


def _waits(supervisor: Supervisor, active: list[RunSummary]) -> dict[str, float | None]:
    speed = slot_speed(machine.matrix_flops_per_second(), supervisor.summaries())
    slots = slots_for(supervisor.folder(run.run_id) for run in active)
    return expected_waits(supervisor.summaries(), slots, speed)


def _named(typed: str, active: list[RunSummary], action: str) -> RunSummary:
    """The active run with that id, or whose id alone ends so; ConfigError without one."""
    found = [run for run in active if run.run_id.endswith(typed)] if typed else []
    if len(found) != 1:
        raise ConfigError(
            f"--{action} must name one active run, by its id or the id's end, but {typed!r:.40} "
            f"names {len(found)}: see the ids by the command queue."
        )
    if action in MOVES and found[0].state != QUEUED:
        raise ConfigError(f"--{action} must name a run that waits, but {typed:.40} trains already.")
    return found[0]
