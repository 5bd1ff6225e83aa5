"""The command line: keras-lm {train, resume, race, queue, report, generate, export, check, ui}.

Everything a person typed is checked before TensorFlow is imported, which takes seconds.
"""

import argparse
import contextlib
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from keras_lm.commands import export as exports
from keras_lm.commands import queue, race, report, ui
from keras_lm.commands.ending import say_course
from keras_lm.commands.flags import (
    add_config_flags,
    add_longer_flags,
    add_run_flags,
    given,
    has_run_flags,
    longer_by,
    typed_path,
)
from keras_lm.commands.folders import (
    check_holds_nothing,
    claim_alone,
    existing_file,
    existing_run,
    read_config,
    write_out,
)
from keras_lm.commands.new_run import new_config
from keras_lm.commands.preparing import prepare, with_standard_input
from keras_lm.commands.workers import asks_for_workers, follows
from keras_lm.data import corpus, tokenizers
from keras_lm.data.large.streams import is_large
from keras_lm.keras_file import initial
from keras_lm.keras_file.opening import ModelFileError, check_model_file, read_model_file
from keras_lm.runs import ray_queue
from keras_lm.runs.process import process_identity
from keras_lm.runs.queue import first_position, wait_for_turn
from keras_lm.runs.race import finish_races
from keras_lm.settings.config import (
    ConfigError,
    DataConfig,
    GenerationConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)
from keras_lm.settings.longer import Longer
from keras_lm.storage import files, run_folder
from keras_lm.storage.cache import keep_compiled_programs
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system import signals
from keras_lm.system.terminal import accept_any_character, printable, quiet_stderr, say

STARTED = time.time()
BAD_INPUT = 2
ENDED_EARLY = "Its process was asked to end before it trained {a} step."
NICENESS = 5  # of a run that the page started: the page comes first


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage's wall of flags."""

    def error(self, message: str) -> NoReturn:
        sys.exit(refuse(f"{message[:1].upper()}{message[1:]} (try {self.prog} --help)"))


def refuse(message: str) -> int:
    """Prints one line about bad input; returns the exit code for it."""
    say(message)
    return BAD_INPUT


@contextlib.contextmanager
def import_of_tensorflow() -> Iterator[None]:
    """Keeps what is compiled, and hides what the libraries print while they load.

    Python's errors stay. Garbage is not collected meanwhile, nor looked for in what was loaded:
    half a second sooner.
    """
    keep_compiled_programs()
    gc.disable()
    try:
        with quiet_stderr(), signals.ending_later():
            yield
    finally:
        gc.freeze()
        gc.enable()


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    name = Path(sys.argv[0]).name
    prog = name if name == "keras-lm" else "python -m keras_lm"
    parser = Parser(prog=prog, description="Small language models, end to end.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    train_parser = commands.add_parser("train", help="train a model into a new run folder")
    train_parser.add_argument("--run-dir", type=typed_path, required=True, help="The run's folder.")
    for command in (train_parser, race.add_parser(commands)):
        add_run_flags(command)
    report.add_parser(commands)
    queue.add_parser(commands)

    resume_parser = commands.add_parser("resume", help="go on from a run's newest checkpoint")
    resume_parser.add_argument(
        "--run-dir", type=typed_path, required=True, help="The run's folder."
    )
    resume_parser.add_argument("--attempt", default="", help=argparse.SUPPRESS)  # of a node
    add_longer_flags(resume_parser)
    for command in (train_parser, resume_parser):
        command.add_argument(
            "--wait-turn",
            action="store_true",
            help="Wait until no earlier run in the same folder is training.",
        )

    generate_parser = commands.add_parser("generate", help="continue a text")
    generate_parser.add_argument("--model", type=typed_path, required=True, help="A .keras file.")
    generate_parser.add_argument("--prompt", default="", help="The text to continue.")
    add_config_flags(generate_parser, GenerationConfig)

    exports.add_parser(commands)

    check_parser = commands.add_parser("check", help="is this .keras file safe and sound?")
    check_parser.add_argument("file", type=typed_path, metavar="FILE.keras")

    ui.add_parser(commands)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was typed; `ui` keeps the flags that it does not know, for Streamlit."""
    arguments, unknown = parser.parse_known_args()
    if unknown and arguments.command != "ui":
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    arguments.streamlit_flags = unknown
    return arguments


def train(arguments: argparse.Namespace) -> int:
    """`train`: a new run from flags, or the one whose config the page put into the folder."""
    folder = RunFolder(arguments.run_dir)
    if asks_for_workers(arguments) and follows(config := new_config(arguments)):
        return follow(folder, config)
    if folder.holds_run:
        return train_written(folder, arguments)
    return train_new(folder, arguments)


def train_new(folder: RunFolder, arguments: argparse.Namespace) -> int:
    """Makes a run from flags in a folder that holds nothing, and trains it."""
    check_holds_nothing(folder)
    config, source = with_standard_input(new_config(arguments), folder)
    prepared = None
    if not is_large(config.data):  # else it takes so long that the run begins with it
        prepared = prepare(config, source)
        config = config.with_vocab_size(prepared.tokenizer.vocab_size)
    folder.create()
    claim_alone(folder)
    check_holds_nothing(folder)  # since it was looked at, another process may have filled it
    if source is not None:  # to resume from
        files.write_atomically(folder.text_file, source)
    initial.keep_initial(folder, config)
    folder.write_config(config.to_dict())
    return run(folder, config, prepared, arguments.wait_turn)


def train_written(folder: RunFolder, arguments: argparse.Namespace) -> int:
    """Trains the run whose config is in the folder already and that never started."""
    typed = [given(arguments, config) for config in (ModelConfig, DataConfig, TrainingConfig)]
    # Where it began late, somebody may have taken it for dead.
    never = (run_folder.QUEUED, run_folder.INTERRUPTED)
    started_before = folder.read_status().get("state", run_folder.QUEUED) not in never
    has_more = folder.has_model or folder.has_checkpoint or folder.events_file.exists()
    if any(typed) or arguments.preset or arguments.like or started_before or has_more:
        raise ConfigError(
            f"--run-dir must name a new folder, but {folder.path} already holds a run: choose "
            "another name, or go on with it by the command resume."
        )
    claim_alone(folder)
    return run(folder, read_config(folder), None, arguments.wait_turn)


def resume(arguments: argparse.Namespace) -> int:
    """`resume`: the run's own config, from its newest checkpoint or from the start."""
    folder, attempt = existing_run(arguments.run_dir), arguments.attempt
    config = read_config(folder)
    is_chief = not follows(config)
    if attempt:
        ray_queue.join(folder, attempt)
    elif is_chief:
        claim_alone(folder)
    state = folder.read_status().get("state")
    longer = longer_by(arguments)
    if state == run_folder.FINISHED and longer is None:
        raise ConfigError(
            f"The run in {folder.path} is finished; there is nothing to resume. To train it "
            "longer, say by how much: --steps or --max-seconds."
        )
    if longer is not None and not folder.has_checkpoint:
        raise ConfigError(
            f"The run in {folder.path} has no checkpoint to go on from: start a new run that is "
            "longer, with train --like."
        )
    if not is_chief:
        return follow(folder, config)
    # The page marks a run as queued and then starts this very process.
    if state != run_folder.QUEUED:
        folder.take_request()  # what was asked of the process before this one
    wait_turn = arguments.wait_turn
    return run(folder, config, None, wait_turn, longer, is_node=bool(attempt))


def run(
    folder: RunFolder,
    config: RunConfig,
    prepared: corpus.Corpus | None,
    wait_turn: bool,
    longer: Longer | None = None,
    is_node: bool = False,
) -> int:
    """Trains a claimed run in this process; bad input is in the run's status too.

    On a node of a cluster the process that watches it has claimed the run.
    """
    if wait_turn:
        os.nice(NICENESS)
    try:
        begin = time.time()
        if not is_node:
            entry = {"state": run_folder.QUEUED, "message": ""}
            folder.write_status(**first_position(folder), **entry, **process_identity())
        if wait_turn and ray_queue.ray_address():
            return ray_queue.train_elsewhere(folder, longer.flags if longer else [])
        if wait_turn and not wait_for_turn(folder):
            folder.write_status(state=folder.state_before_more, message=run_folder.TAKEN_OUT)
            return 0
        started = STARTED + time.time() - begin  # what it waited is no part of the run
        folder.write_status(state=run_folder.PREPARING, message="Reading the text.")
        initial.keep_initial(folder, config)
        begin = time.time()
        prepared = prepared or prepare(config, folder=folder)
        if is_large(config.data):  # what is done once for all runs on the text
            started += time.time() - begin
        folder.write_status(message="Loading TensorFlow.")
        with import_of_tensorflow():
            from keras_lm.training import run as trainer

        code = trainer.train(folder, config, prepared, started, longer)
        say_course(folder, config)
        return code
    except ValueError as error:
        folder.write_status(state=run_folder.FAILED, message=str(error))
        return refuse(str(error))
    except KeyboardInterrupt:
        message = ENDED_EARLY.format(a="another" if folder.read_status().get("step") else "a")
        folder.write_status(state=folder.state_before_more, message=message)
        raise
    finally:
        finish_races(folder)


def follow(folder: RunFolder, config: RunConfig) -> int:
    """Trains a run in this process as its chief, another one, says; writes nothing."""
    prepared = prepare(config, folder=folder, is_chief=False)
    with import_of_tensorflow():
        from keras_lm.training import following

    return following.follow(folder, config, prepared, STARTED)


def generate(arguments: argparse.Namespace) -> int:
    """`generate`: prints the continuation as it is made."""
    config = GenerationConfig(**given(arguments, GenerationConfig))
    existing_file(arguments.model)
    with import_of_tensorflow():
        from keras_lm.generation.bundle import load
        from keras_lm.generation.generator import stream_text

    bundle = load(arguments.model)
    if unknown := bundle.tokenizer.unknown(arguments.prompt):
        shown = " ".join(unknown)
        say(f"Ignored, since the training text does not contain them: {shown}")
    if cut := bundle.tokens_cut(arguments.prompt):
        say(f"Longer than the context: the first {cut} tokens are not read.")
    on_terminal = sys.stdout.isatty()
    for piece in stream_text(bundle.generator, bundle.tokenizer, arguments.prompt, config):
        print(printable(piece, keep="\n\t") if on_terminal else piece, end="", flush=True)
    print()
    return 0


def export(arguments: argparse.Namespace) -> int:
    """`export`: the best model of a run, which most often is the newest, in some format."""
    model_file, format = exports.checked_model(arguments)
    if format.name == exports.KERAS:
        check_model_file(model_file)
        write_out(arguments.out, model_file)
        return 0
    from keras_lm.export.exporting import Exported, write_export

    say("1/4 The model is read.")
    story = exports.story(RunFolder(arguments.run_dir), model_file)
    content = read_model_file(model_file)
    tokenizer = tokenizers.tokenizer_from_dict(content.tokenizer)
    with import_of_tensorflow() if format.needs_tensorflow else contextlib.nullcontext():
        format.load()
    text = (
        exports.text_of(RunFolder(arguments.run_dir), tokenizer) if format.measures else (None, "")
    )
    model = Exported(content.config, tokenizer, content.arrays, *story, *text)
    write_export(model, format, arguments.out, say)
    return 0


def check(arguments: argparse.Namespace) -> int:
    """`check`: one line about the file; 0 when `keras_lm.load` takes it, else 1."""
    existing_file(arguments.file)
    try:
        config = check_model_file(arguments.file)
    except ModelFileError as error:
        print(printable(str(error)))
        return 1
    name, count = printable(str(arguments.file)), config.parameter_count()
    print(f"{name} is a sound model with {count:,} weights.")
    return 0


def main() -> int:
    """Runs one command; returns the process's exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signals.on_ending(signals.interrupt)
    accept_any_character()
    arguments = parse(build_parser())
    commands = {
        "train": train,
        "resume": resume,
        "generate": generate,
        "export": export,
        "check": check,
        "race": lambda typed: race.race(typed, lambda: new_config(typed), has_run_flags(typed)),
        "report": report.report,
        "queue": queue.queue,
        "ui": ui.ui,
    }
    try:
        return commands[arguments.command](arguments)
    except ValueError as error:  # ConfigError, TextError, ModelFileError: sentences for people
        return refuse(str(error))
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left to print at the end
        return 0
    except OSError as error:
        return refuse(f"{error.filename or 'The disk'} cannot be used: {error.strerror}.")
    except KeyboardInterrupt:
        return 130
    except Exception:
        if signals.is_ending():  # a library turned the interrupt into this error
            return 130
        raise
