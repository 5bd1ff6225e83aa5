"""`export`: a run's model as a file or folder that others can use."""

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

from keras_lm.commands.flags import typed_path
from keras_lm.commands.folders import existing_run, read_config
from keras_lm.data.corpus import Corpus, text_of_model
from keras_lm.data.texts import TEXTS
from keras_lm.data.tokenizers import Tokenizer
from keras_lm.keras_file.opening import ModelFileError, check_model_file
from keras_lm.presentation.course import describe_course
from keras_lm.settings.config import ConfigError
from keras_lm.settings.formats import FORMATS
from keras_lm.settings.kinds import Format
from keras_lm.storage.run_folder import RunFolder

KERAS = "keras"


class Story(NamedTuple):
    """What is known of a model's run.

    Attributes:
        title: the text's name.
        course: sentences about how it went; "" when nothing is known.
        settings: the run's, as JSON.
    """

    title: str
    course: str
    settings: dict[str, Any]


def add_parser(commands: Any) -> None:
    """Adds the command to the command line."""
    parser = commands.add_parser("export", help="write a run's model for use elsewhere")
    parser.add_argument("--run-dir", type=typed_path, required=True, help="The run's folder.")
    names = "; ".join(f"{name} {entry.sentence}" for name, entry in FORMATS.items())
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=KERAS,
        metavar="FORMAT",
        help=f"What it becomes, {KERAS} if none is named: {names}",
    )
    parser.add_argument(
        "--out",
        type=typed_path,
        required=True,
        help="A new folder; a .zip file; or with the format's own suffix (such as .keras, .onnx, "
        ".tflite) the model's file alone.",
    )
    parser.add_argument(
        "--last",
        action="store_true",
        help="The newest model, even where an earlier one had a lower validation loss.",
    )


def checked_model(arguments: argparse.Namespace) -> tuple[Path, Format]:
    """The file of the model and its new format; ConfigError when that cannot be done."""
    folder = existing_run(arguments.run_dir)
    if not folder.has_model:
        raise ConfigError(f"The run in {folder.path} has no model yet; let it train longer.")
    format = FORMATS[arguments.format]
    if missing := [name for name in format.needs if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"The format {format.name} needs the Python modules {', '.join(missing)}, which are "
            "not installed: pip install 'keras_lm[export]', in a clone pip install '.[export]'."
        )
    if format.name == KERAS:
        _check_keras_name(arguments.out)
    elif os.path.lexists(arguments.out):
        raise ConfigError(f"--out must be a new name, but {arguments.out} exists: choose another.")
    elif not (parent := arguments.out.parent).is_dir():
        raise ConfigError(f"--out must be a new name in a folder, but there is no folder {parent}.")
    elif arguments.out.suffix in {entry.suffix for entry in FORMATS.values()} - {format.suffix, ""}:
        alone = f", in {format.suffix}" if format.suffix else ""
        raise ConfigError(
            f"--out must end in .zip{alone} or be a folder for the format {format.name}, but got "
            f"{arguments.out}: choose another name or format."
        )
    return folder.model_file if arguments.last else folder.offered_model, format


def text_of(folder: RunFolder, tokenizer: Tokenizer) -> tuple[Corpus | None, str]:
    """The run's text in the model's tokens; None and the reason when that cannot be had."""
    config = read_config(folder)
    return text_of_model(config.data, config.model.context_length, tokenizer)


def _check_keras_name(out: Path) -> None:
    if out.suffix != ".keras":
        raise ConfigError(f"--out must end in .keras, but got {out}.")
    if out.exists():
        try:
            check_model_file(out)
        except ModelFileError:
            raise ConfigError(
                f"--out must name a new file or a model made here, but {out} is something else: "
                "choose another name."
            ) from None


def story(folder: RunFolder, model_file: Path) -> Story:
    """What the card of a model says of its run."""
    config, (events, _) = read_config(folder), folder.read_events()
    status = folder.read_status()
    parts = [describe_course(config, status, events)]
    own_step = folder.best_model if model_file != folder.model_file else status.get("model_step")
    validated = [event for event in events if "val_loss" in event]
    if own_step:  # which earlier versions did not note
        validated = [event for event in validated if event["step"] <= own_step]
    if validated:
        last = validated[-1]
        step = own_step or last["step"]
        loss, bits, exact = (
            last.get(name) for name in ("val_loss", "val_bits_per_byte", "task_accuracy")
        )
        in_bits = f", {bits:.3f} bits per byte" if bits else ""
        right = f", {exact:.1%} of the held-out answers right" if exact is not None else ""
        when = f", measured at step {last['step']:,}" if last["step"] < step else ""
        parts.append(
            f"This is the model of step {step:,}{when}: {loss:.4f} nats per token{in_bits}{right}."
        )
    text = TEXTS.get(config.data.data)
    title = text.title if text else config.data.label
    return Story(title, " ".join(filter(None, parts)), config.to_dict())
