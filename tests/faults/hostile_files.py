"""Hostile model files: each is refused or read as sound data, within limits, with nothing left.

`python -m tests.faults.hostile_files [--short]` prints how many, and the most that one took.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from keras_lm.data.tokenizers import CharTokenizer
from keras_lm.export.keras_archive import save_model
from keras_lm.keras_file.opening import ModelFileError, check_model_file
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import ModelConfig
from tests.bombs import BOMBS, scattered
from tests.keras_file.test_hostile_files import (
    HOSTILE,
    keras_globals,
    members_of,
    write_members,
)

MAX_SECONDS, MAX_MEGABYTES = 2.0, 50.0
TEXT = "abcdefghijklmnopqrs é😀\n"


def hostile_files(sound: Path, scattered_count: int):
    """Name and bytes of every file."""
    for changes in HOSTILE.values():
        for name, change in changes.items():
            path = write_members(sound.with_name("made"), change(members_of(sound)).items())
            yield name, path.read_bytes()
    for name, make in BOMBS.items():
        yield name, make(sound)
    for seed in range(scattered_count):
        yield f"scattered bytes {seed}", scattered(seed, 1 + seed % 40)(sound)
    content = sound.read_bytes()
    for seed in range(scattered_count):
        yield f"cut {seed}", content[: len(content) * seed // scattered_count]
        damaged = np.frombuffer(content, "uint8").copy()
        indices = np.random.default_rng(seed).integers(0, len(content), 1 + seed % 5)
        damaged[indices] ^= 1
        yield f"flipped bits {seed}", damaged.tobytes()


def run(scattered_count: int) -> dict:
    """Reads every file; returns counts and the most that one took."""
    process = psutil.Process()
    result = {"files": 0, "refused": 0, "sound": 0, "seconds": 0.0, "megabytes": 0.0}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as temporary:
        sound = Path(folder, "sound.keras")
        tokenizer = CharTokenizer.from_text(TEXT)
        config = ModelConfig(tokenizer.vocab_size, 11, 30, 3, 2, 17)
        save_model(sound, build_model(config), tokenizer.to_dict())
        before = keras_globals()  # with the layers, which the first model has registered
        path, kept = Path(folder, "hostile.keras"), tempfile.tempdir
        tempfile.tempdir = os.environ["TMPDIR"] = temporary
        for _, content in hostile_files(sound, scattered_count):
            path.write_bytes(content)
            memory, begin = process.memory_info().rss, time.perf_counter()
            try:
                check_model_file(path)
                result["sound"] += 1
            except ModelFileError as error:
                assert "\n" not in str(error)
                result["refused"] += 1
            result["files"] += 1
            result["seconds"] = max(result["seconds"], time.perf_counter() - begin)
            grown = (process.memory_info().rss - memory) / 2**20
            result["megabytes"] = max(result["megabytes"], grown)
        tempfile.tempdir = kept
        del os.environ["TMPDIR"]
        result["left behind"] = len(os.listdir(temporary)) + len(process.children())
    result["globals unchanged"] = keras_globals() == before
    return result


def main() -> int:
    """Prints the counts; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    result = run(5 if parser.parse_args().short else 200)  # the tests read most of these too
    print(result)
    within = result["seconds"] <= MAX_SECONDS and result["megabytes"] <= MAX_MEGABYTES
    return 0 if within and result["globals unchanged"] and not result["left behind"] else 1


if __name__ == "__main__":
    sys.exit(main())
