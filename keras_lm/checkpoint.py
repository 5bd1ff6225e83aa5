"""What is kept of a model: the `.keras` file for people, checkpoints for resuming.

Both are written beside, flushed and renamed, so that a crash leaves the old one whole. A file that
somebody hands in is read as data: our own schema, ranges and shapes; no class named in it is ever
looked up.
"""

import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_lm.config import ModelConfig
from keras_lm.generation import Generator
from keras_lm.model import LanguageModel, build_model
from keras_lm.run_folder import read_json, write_atomically
from keras_lm.tokenizer import Tokenizer, tokenizer_from_dict

MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
MAX_JSON_BYTES = 32 * 2**20
MAX_PARAMETERS = 500_000_000
STATE_FILE, MANIFEST_FILE = "state.npz", "MANIFEST.json"
KEPT_CHECKPOINTS = 3


class ModelFileError(ValueError):
    """A model file or checkpoint that cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class Bundle:
    """A model with what is needed to use it.

    Attributes:
        model: the LanguageModel, float32.
        tokenizer: its tokenizer.
        config: its ModelConfig.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    config: ModelConfig

    @functools.cached_property
    def generator(self) -> Generator:
        """The model's Generator, made once, so that its compiled loop is reused."""
        return Generator(self.model)

    def tokens_cut(self, prompt: str) -> int:
        """How many of the prompt's first tokens lie before the context and are not read."""
        return max(0, len(self.tokenizer.encode(prompt)) - self.config.context_length)


def save_model(path: Path, model: LanguageModel, tokenizer: dict) -> None:
    """Writes `model` with its tokenizer as a `.keras` file in float32, whole or not at all.

    Args:
        path: where; an old file there is replaced.
        model: any precision.
        tokenizer: its `to_dict()`.
    """
    export = LanguageModel(model.config, tokenizer, dtype="float32", name="language_model")
    export.build((None, model.config.context_length))
    export.set_weights(model.get_weights())
    temporary = path.with_name(f".{path.stem}.partial.keras")
    try:
        export.save(temporary)
        write_atomically(path, temporary.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)


def load(path: str | Path) -> Bundle:
    """Reads a `.keras` file of ours; safe on any file.

    Args:
        path: the file.

    Returns:
        Its model (float32), tokenizer and config.

    Raises:
        ModelFileError: when the file is not a sound model of ours, with the reason.
    """
    try:
        values, weights = _read_members(Path(path))
        config = ModelConfig.from_dict(values.get("config"))
        if not 0 < config.parameter_count() <= MAX_PARAMETERS:
            raise ModelFileError(f"its model would have {config.parameter_count():,} weights.")
        tokenizer = tokenizer_from_dict(values.get("tokenizer"))
        if tokenizer.vocab_size != config.vocab_size:
            raise ModelFileError(
                f"its tokenizer has {tokenizer.vocab_size} tokens and its model "
                f"{config.vocab_size}."
            )
        if len(weights) < 4 * config.parameter_count():  # before memory is taken for the model
            raise ModelFileError("its weights do not fit its config.")
        model = build_model(config, "float32")
        _read_weights(model, weights)
    except OSError as error:
        if error.errno is not None:
            raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from None
        raise ModelFileError(f"{path} is damaged: its weights cannot be read.") from None
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelFileError(f"{path} is not a sound keras_lm model: {reason:.200}") from None
    model.tokenizer = tokenizer.to_dict()
    return Bundle(model, tokenizer, config)


def _read_members(path: Path) -> tuple[dict, bytes]:
    """The model's values from `config.json`, and the bytes of its weights."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if set(members) != MEMBERS or len(archive.infolist()) != len(MEMBERS):
            raise ModelFileError(f"it must hold exactly {', '.join(sorted(MEMBERS))}.")
        limits = {"model.weights.h5": 4 * MAX_PARAMETERS + MAX_JSON_BYTES}
        for name, info in members.items():
            too_large = info.file_size > limits.get(name, MAX_JSON_BYTES)
            if too_large or info.compress_type != zipfile.ZIP_STORED:
                raise ModelFileError(f"its member {name} is compressed or too large.")
        config = json.loads(archive.read("config.json"))
        if (
            not isinstance(config, dict)
            or config.get("registered_name") != "keras_lm>LanguageModel"
        ):
            raise ModelFileError("its config.json does not describe a keras_lm language model.")
        if not isinstance(config.get("config"), dict):
            raise ModelFileError("its config.json has no config.")
        return config["config"], archive.read("model.weights.h5")


def _layout(file: h5py.File) -> dict[str, tuple]:
    """Shape and type of every array in the file, which may hold nothing but plain arrays."""
    layout, pending = {}, [""]
    while pending:
        prefix = pending.pop()
        group = file[prefix or "/"]
        for name in group:
            path = f"{prefix}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelFileError(f"its weights hold a link, {path!r:.60}.")
            if len(layout) + len(pending) > 100_000 or len(path) > 500:
                raise ModelFileError("its weights hold too many or too deeply nested entries.")
            entry = group[name]
            if isinstance(entry, h5py.Group):
                pending.append(path)
                continue
            if not isinstance(entry, h5py.Dataset):
                raise ModelFileError(f"its entry {path!r:.60} is not an array.")
            properties = entry.id.get_create_plist()
            plain = not properties.get_nfilters() and not properties.get_external_count()
            if not plain or entry.is_virtual:
                raise ModelFileError(f"its array {path!r:.60} is compressed or kept elsewhere.")
            layout[path] = (entry.shape, entry.dtype)
    return layout


def _read_weights(model: LanguageModel, weights: bytes) -> None:
    """Fills `model` from the bytes of a weights file that has exactly its arrays."""
    with tempfile.TemporaryDirectory(prefix="keras_lm-") as folder:
        expected, given = (Path(folder, f"{name}.weights.h5") for name in ("expected", "given"))
        model.save_weights(expected)
        given.write_bytes(weights)
        with h5py.File(expected, "r") as own, h5py.File(given, "r") as other:
            if _layout(own) != _layout(other):
                raise ModelFileError("its weights do not fit its config.")
        model.load_weights(given)
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise ModelFileError("its weights hold values that are not finite numbers.")


def save_checkpoint(folder: Path, step: int, variables: list, position: dict) -> Path:
    """Writes one checkpoint, whole or not at all, and removes the oldest beyond KEPT_CHECKPOINTS.

    Args:
        folder: the run's `checkpoints` folder.
        step: updates made.
        variables: every Keras variable of model and optimizer, seeds included, in a fixed order.
        position: JSON object with the rest of the run's state.

    Returns:
        The checkpoint's folder, `step-00000500`.

    Raises:
        OSError: when the disk refuses; older checkpoints are intact.
    """
    folder.mkdir(exist_ok=True)
    target = folder / f"step-{step:08d}"
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        content = io.BytesIO()
        np.savez(content, *(keras.ops.convert_to_numpy(variable) for variable in variables))
        state = content.getbuffer()
        digest = hashlib.sha256(state).hexdigest()
        write_atomically(temporary / STATE_FILE, state)
        manifest = {"step": step, "position": position, "sha256": {STATE_FILE: digest}}
        write_atomically(temporary / MANIFEST_FILE, json.dumps(manifest).encode())
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        _flush_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def latest_checkpoint(folder: Path) -> tuple[int, list[np.ndarray], dict] | None:
    """Step, arrays and position of the newest checkpoint whose bytes match its manifest."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        manifest = read_json(path / MANIFEST_FILE)
        try:
            content = (path / STATE_FILE).read_bytes()
            sound = hashlib.sha256(content).hexdigest() == manifest["sha256"][STATE_FILE]
            step, position = int(manifest["step"]), manifest["position"]
        except (OSError, KeyError, TypeError, ValueError):
            continue
        if sound:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return step, [arrays[name] for name in arrays.files], position
    return None


def restore(variables: list, arrays: list[np.ndarray]) -> None:
    """Assigns a checkpoint's arrays to the variables they were taken from.

    Raises:
        ModelFileError: when they are not those of these variables.
    """
    if [variable.shape for variable in variables] != [array.shape for array in arrays]:
        raise ModelFileError("The checkpoint belongs to a model of another shape.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
