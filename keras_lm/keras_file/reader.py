"""The process that opens an untrusted `.keras` file: `opening` starts it.

`python -m keras_lm.keras_file.reader all|config`: the file comes as standard input. If it is
sound, its config is written as a line of JSON, and for "all" also its tokenizer and then its
weights as float32. Else there is one sentence on standard error and the exit code REFUSED. Only
plain data is read: exact members, our own schema, exact shapes; no class named in the file is ever
looked up.
"""

import contextlib
import gc
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np

from keras_lm.data.tokenizers import tokenizer_from_dict
from keras_lm.keras_file.opening import (
    MAX_FILE_BYTES,
    MAX_PARAMETERS,
    REASON_LENGTH,
    REFUSED,
    ModelFileError,
)
from keras_lm.settings.config import ModelConfig
from keras_lm.storage.int8 import (
    CLASS,
    FLOAT,
    SCALES,
    WHOLE,
    Stored,
    dequantize,
    scale_axis,
    stored_arrays,
)

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
PLAIN_CLASS = "LanguageModel"
PART_VALUES = 2**20  # of weights in 8 bits, turned into float32 at once
MEMBERS = {"metadata.json", CONFIG, WEIGHTS}
MAX_JSON_BYTES = 16 * 2**20  # all of Unicode as a vocabulary has 13 MB
CONFIG_KEYS = {
    "module",
    "class_name",
    "registered_name",
    "config",
    "build_config",
    "compile_config",
}
OPTIMIZER, MOST_STATES = "optimizer", 3  # Adam's means; never looked into, only room for them
MODEL_KEYS = {"name", "trainable", "dtype", "config", "tokenizer"}
CPU_SECONDS, BYTES_PER_SECOND = 1.3, 150e6  # a sound file of 67 MB takes 0.3 s
MEMORY_BYTES = 768 * 2**20  # of addresses, beside the file's own size


def limit_resources(file_bytes: int) -> None:
    """From here on the system ends this process when it takes more than a sound file needs."""
    limit_time(file_bytes)
    limits = {
        resource.RLIMIT_AS: MEMORY_BYTES + 2 * file_bytes,
        resource.RLIMIT_FSIZE: 4 * file_bytes + MAX_JSON_BYTES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of addresses
            resource.setrlimit(kind, (value, value))


def limit_time(file_bytes: int) -> None:
    """Ends this process when it computes for longer than a sound file of that size needs."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS + file_bytes / BYTES_PER_SECOND)


def read(file: BinaryIO, out: BinaryIO, with_weights: bool) -> None:
    """Checks the model in `file` and writes it to `out`; raises whatever is wrong with it."""
    check_end(file)
    with zipfile.ZipFile(file) as archive, tempfile.TemporaryFile() as weights:
        check_members(archive)
        archive.read("metadata.json")  # for its checksum alone
        config, tokenizer, is_int8 = read_config(archive.read(CONFIG))
        shapes = config.weight_shapes()
        stored = {path: (shape, FLOAT) for path, shape in shapes.items()}
        if is_int8:
            stored = stored_arrays(shapes)
            limit_time(4 * os.fstat(file.fileno()).st_size)  # of each byte it makes four
        own_bytes = sum(
            math.prod(shape) * np.dtype(kind).itemsize for shape, kind in stored.values()
        )
        room = archive.getinfo(WEIGHTS).file_size - own_bytes
        if not 0 <= room <= MOST_STATES * own_bytes + 2**20 + 2**13 * len(shapes):
            raise ModelFileError("its weights do not fit its config.")
        write_line(out, config.to_dict())
        if with_weights:
            write_line(out, tokenizer)
        with archive.open(WEIGHTS) as member:
            shutil.copyfileobj(member, weights, 2**20)
        copy_weights(weights, shapes, stored, out if with_weights else None)


def write_line(out: BinaryIO, values: dict) -> None:
    """One line of JSON."""
    out.write(json.dumps(values).encode() + b"\n")


def check_end(file: BinaryIO) -> None:
    """ModelFileError unless the file's end lists as many members as ours have, in small words."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise ModelFileError(f"it has {size:,} bytes, more than {MAX_FILE_BYTES:,}.")
    file.seek(max(0, size - 42))
    end = file.read()  # the end of central directory, before it its 64-bit locator if it has one
    if not end[-22:].startswith(b"PK\5\6") or end.startswith(b"PK\6\7"):
        raise ModelFileError("it is not an archive as Keras writes them.")
    if int.from_bytes(end[-12:-10], "little") != len(MEMBERS):
        raise ModelFileError(f"it must hold exactly {', '.join(sorted(MEMBERS))}.")
    if int.from_bytes(end[-10:-6], "little") > 1000:
        raise ModelFileError("its list of members is too long.")


def check_members(archive: zipfile.ZipFile) -> None:
    """ModelFileError unless the archive has exactly our members, plain and of possible sizes."""
    members = {info.filename: info for info in archive.infolist()}
    if set(members) != MEMBERS or len(archive.infolist()) != len(MEMBERS):
        raise ModelFileError(f"it must hold exactly {', '.join(sorted(MEMBERS))}.")
    if min(info.header_offset for info in members.values()):
        raise ModelFileError("it holds something before its first member.")
    for name, info in members.items():
        limit = MAX_FILE_BYTES if name == WEIGHTS else MAX_JSON_BYTES
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise ModelFileError(f"its member {name} is compressed or too large.")


def read_config(content: bytes) -> tuple[ModelConfig, dict, bool]:
    """The model's config and tokenizer from `config.json`, checked against each other.

    The third is whether the weights have 8 bits.
    """
    try:
        stored = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"its config.json cannot be read: {error}") from None
    if (
        not isinstance(stored, dict)
        or (name := stored.get("class_name")) not in (PLAIN_CLASS, CLASS)
        or stored.get("registered_name") != f"keras_lm>{name}"
    ):
        raise ModelFileError("its config.json does not describe a keras_lm language model.")
    values = stored.get("config")
    if not isinstance(values, dict):
        raise ModelFileError("its config.json has no config.")
    for found, allowed in ((stored, CONFIG_KEYS), (values, MODEL_KEYS)):
        if unknown := sorted(found.keys() - allowed):
            raise ModelFileError(f"its config.json has an unknown entry {unknown[0]!r:.60}.")
    config = ModelConfig.from_dict(values.get("config"))
    if not 0 < config.parameter_count() <= MAX_PARAMETERS:
        raise ModelFileError(f"its model would have {config.parameter_count():,} weights.")
    tokenizer = tokenizer_from_dict(values.get("tokenizer"))
    if tokenizer.vocab_size != config.vocab_size:
        raise ModelFileError(
            f"its tokenizer has {tokenizer.vocab_size} tokens and its model {config.vocab_size}."
        )
    return config, tokenizer.to_dict(), name == CLASS


def copy_weights(
    weights: BinaryIO, shapes: dict[str, tuple], stored: Stored, out: BinaryIO | None
) -> None:
    """Copies arrays that are exactly the stored ones, checked to be plain and finite, in float32.

    Args:
        weights: the HDF5 file.
        shapes: of the model's arrays, by their paths.
        stored: what the file must hold.
        out: where they go, if anywhere.
    """
    try:
        with h5py.File(weights, "r") as store:
            arrays = find_arrays(store, max_entries=64 + 8 * len(shapes))
            found = {path: (array.shape, array.dtype.str) for path, array in arrays.items()}
            if found != stored:
                raise ModelFileError("its weights do not fit its config.")
            for path, shape in shapes.items():
                axis = scale_axis(path, shape) if stored[path][1] == WHOLE else None
                for values in parts_of(arrays[path], arrays.get(path + SCALES), axis):
                    if not np.isfinite(values).all():
                        raise ModelFileError("its weights hold values that are not finite numbers.")
                    if out is not None:
                        out.write(values.data)
    except (ModelFileError, MemoryError):
        raise
    except Exception as error:  # HDF5 has many ways to say so
        if getattr(error, "errno", None) is not None:  # the answer's disk is full
            raise
        raise ModelFileError("it is damaged: its weights cannot be read.") from None


def parts_of(
    array: h5py.Dataset, scales: h5py.Dataset | None, axis: int | None
) -> Iterator[np.ndarray]:
    """The numbers of an array in float32; of one in 8 bits, so many rows at once.

    Args:
        array: as it is stored.
        scales: beside it, if it has 8 bits.
        axis: which they are along.
    """
    if scales is None or axis is None:
        yield array[()]
        return
    rows, factors = max(1, PART_VALUES // array.shape[1]), scales[()]
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, array.shape[0], rows):
            part = slice(first, first + rows)
            yield dequantize(array[part], factors if axis else factors[part], axis)


def find_arrays(store: h5py.File, max_entries: int) -> dict[str, h5py.Dataset]:
    """Every array by its path; ModelFileError where there is anything but plain arrays.

    An optimizer's state, which Keras saves with a model that was fitted, is left unopened.
    """
    arrays: dict[str, h5py.Dataset] = {}
    pending, count = [""], 0
    while pending:
        prefix = pending.pop()
        group = store[prefix or "/"]
        assert isinstance(group, h5py.Group)  # as the root and whatever is appended below
        count += len(group)
        if count > max_entries:
            raise ModelFileError("its weights hold too many or too deeply nested entries.")
        for name in group:
            path = f"{prefix}/{name}" if prefix else str(name)
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelFileError(f"its weights hold a link, {path!r:.60}.")
            if path == OPTIMIZER:
                continue
            entry = group[name]
            if isinstance(entry, h5py.Group):
                pending.append(path)
            elif isinstance(entry, h5py.Dataset):
                check_array(entry, path)
                arrays[path] = entry
            else:
                raise ModelFileError(f"its entry {path!r:.60} is not an array.")
    return arrays


def check_array(array: h5py.Dataset, path: str) -> None:
    """ModelFileError unless the array's numbers lie in the file, in a row, as they are."""
    properties = array.id.get_create_plist()
    plain = not properties.get_nfilters() and not properties.get_external_count()
    if not plain or array.is_virtual or properties.get_layout() != h5py.h5d.CONTIGUOUS:
        raise ModelFileError(f"its array {path!r:.60} is compressed or kept elsewhere.")
    if array.dtype.str not in (FLOAT, WHOLE) or array.shape is None:
        raise ModelFileError("its weights do not fit its config.")
    if array.id.get_storage_size() != array.nbytes:
        raise ModelFileError(f"its array {path!r:.60} has no values.")


def main() -> int:
    """Reads the file that is standard input; returns the exit code."""
    gc.disable()  # it would look through a large vocabulary again and again
    limit_resources(os.fstat(sys.stdin.fileno()).st_size)
    try:
        read(sys.stdin.buffer, sys.stdout.buffer, with_weights=sys.argv[1] == "all")
        sys.stdout.flush()
    except MemoryError:
        reason: Any = "reading it took more memory than a sound file needs."
    except OSError as error:
        reason = f"reading it failed: {error.strerror}."
    except Exception as error:
        reason = str(error) or type(error).__name__
    else:
        return 0
    print(f"{reason.splitlines()[0]:.{REASON_LENGTH}}", file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
