"""`ui`: the page, with Streamlit's flags and how many runs train at once."""

import argparse
import os
import sys
from typing import Any, NoReturn

from keras_lm.runs.slots import SLOTS_VARIABLE, chosen_slots
from keras_lm.system import paths


def add_parser(commands: Any) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser(
        "ui",
        help="open the page in a browser",
        description="Opens the page. Further flags are Streamlit's, such as --server.port 8600.",
    )
    parser.add_argument(
        "--slots",
        metavar="N",
        help=f"How many runs train at once, each with its share of the cores; also {SLOTS_VARIABLE}"
        ". One per two cores, as far as memory holds them, if none is named.",
    )


def ui(arguments: argparse.Namespace) -> NoReturn:
    """This process becomes Streamlit's server of the page; ConfigError for nonsense as slots."""
    if arguments.slots is not None:
        os.environ[SLOTS_VARIABLE] = arguments.slots
    chosen_slots()
    words = ["-m", "streamlit", "run", str(paths.PAGE_SCRIPT), *arguments.streamlit_flags]
    os.execv(sys.executable, [sys.executable, *words])
