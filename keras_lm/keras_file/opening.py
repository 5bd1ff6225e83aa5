"""A `.keras` file as data: what it holds, read by a process of its own under limits.

This process opens neither archive nor arrays of an untrusted file. It starts `reader`,
hands it the open file and takes plain numbers from it; if the reader fails, the file is refused.
"""

import contextlib
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from keras_lm.settings.config import ModelConfig
from keras_lm.system.paths import PROJECT

MAX_PARAMETERS = 500_000_000
MAX_FILE_BYTES = 4 * MAX_PARAMETERS + 64 * 2**20
PATIENCE_SECONDS = 60.0  # by the clock; the reader's own limit counts its processor time
REASON_LENGTH = 200  # characters
NOT_SOUND = "{path} is not a keras_lm model, or it is damaged: {reason}"
REFUSED = 3  # the reader's exit code when its reason is in words


class ModelFileError(ValueError):
    """A model file or checkpoint that cannot be used; the message is one sentence.

    Example:
        >>> isinstance(ModelFileError("there is no file mine.keras."), ValueError)
        True
    """


class ModelContent(NamedTuple):
    """What a model file holds.

    Attributes:
        config: its shape.
        tokenizer: the tokenizer's JSON object.
        arrays: of its `config.weight_shapes()`, float32.
    """

    config: ModelConfig
    tokenizer: dict
    arrays: list[np.ndarray]


def read_model_file(path: Path) -> ModelContent:
    """The content of a `.keras` file made by keras_lm; safe on any file.

    Args:
        path: the file.

    Raises:
        ModelFileError: when the file is not a sound keras_lm model, with the reason.
    """
    with _answer(path, "all") as answer:
        config = ModelConfig.from_dict(json.loads(answer.readline()))
        tokenizer = json.loads(answer.readline())
        arrays = [np.empty(shape, "<f4") for shape in config.weight_shapes().values()]
        for array in arrays:
            if answer.readinto(array.data.cast("B")) != array.nbytes:
                raise ModelFileError(NOT_SOUND.format(path=path, reason="it ends early."))
    return ModelContent(config, tokenizer, arrays)


def check_model_file(path: Path) -> ModelConfig:
    """The config of a file that `read_model_file` would take; ModelFileError for any other."""
    with _answer(path, "config") as answer:
        return ModelConfig.from_dict(json.loads(answer.readline()))


@contextlib.contextmanager
def _answer(path: Path, wanted: str) -> Iterator[io.BufferedRandom]:
    """What the reader says of the file: an unnamed file, which a crash does not leave behind."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as reason:
        try:
            with _open(path) as file:
                code = _run_reader(wanted, file, answer, reason)
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from None
        if code:
            reason.seek(0)
            said = reason.read(4 * REASON_LENGTH).decode(errors="replace").strip()
            if code != REFUSED or not said:
                said = (
                    "reading it took more time or memory than a sound file needs, or failed "
                    f"({_describe_end(code)})."
                )
            raise ModelFileError(NOT_SOUND.format(path=path, reason=said))
        answer.seek(0)
        yield answer


def _open(path: Path) -> BinaryIO:
    """Opens an ordinary file; OSError for anything else, without waiting for a pipe's writer."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(0, "Is a directory" if stat.S_ISDIR(mode) else "Is not an ordinary file")
    return open(path, "rb")


def _run_reader(wanted: str, file: BinaryIO, answer: BinaryIO, reason: BinaryIO) -> int:
    """The reader's exit code, negative when a signal ended it."""
    command = [sys.executable, "-m", "keras_lm.keras_file.reader", wanted]
    # One thread, and no plug-ins that HDF5 would look for.
    limits = {"OPENBLAS_NUM_THREADS": "1", "HDF5_PLUGIN_PRELOAD": "::"}
    try:
        return subprocess.run(
            command,
            cwd=PROJECT,
            env=os.environ | limits,
            stdin=file,
            stdout=answer,
            stderr=reason,
            timeout=PATIENCE_SECONDS,
        ).returncode
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL


def _describe_end(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
