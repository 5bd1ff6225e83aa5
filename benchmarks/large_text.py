"""How fast a large text becomes tokens on the disk, and in how much memory, against tiktoken.

Both tokenize the same text as GPT-2's pieces, in turn, so that what else the machine does meets
both: tiktoken's own `encode_ordinary_batch` with as many threads as there are processes here, which
holds text and tokens in memory; and `keras_lm.data.large`, which reads the file, tokenizes it in
several processes, writes, hashes and counts the tokens. Only their ratio counts.

    python -m benchmarks.large_text --mb 2000 --rounds 5
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from keras_lm.data.large.making import ShardMaker
from keras_lm.data.tokenizers.gpt2 import _encoding
from keras_lm.settings.config import DataConfig
from keras_lm.system.machine import num_cores
from keras_lm.system.paths import DATA_FOLDER

BLOCK_LINES = 20_000
DOCUMENT = 10_000  # characters that tiktoken gets as one text


def make_text(path: Path, megabytes: int) -> None:
    """Writes so many megabytes: lines of the built-in texts in random order, and some numbers."""
    lines = [line for file in sorted(DATA_FOLDER.glob("*.txt")) for line in file.open("rb")]
    generator = np.random.default_rng(0)
    written = 0
    with path.open("wb") as file:
        while written < megabytes * 1_000_000:
            chosen = generator.integers(0, len(lines), BLOCK_LINES).tolist()
            block = b"".join(lines[index] for index in chosen)
            written += file.write(block + b"Part %d.\n" % written)


class PeakMemory:
    """The most memory that this process and its children have at once, within a block.

    Attributes:
        bytes: resident, of all of them.
    """

    def __enter__(self):
        self.bytes, self._ends = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._ends.wait(0.1):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)


def documents(path: Path, start: int, size: int) -> Iterator[str]:
    """A part of the file in texts of about DOCUMENT characters."""
    with path.open("rb") as file:
        file.seek(start)
        text = file.read(size).decode(errors="ignore")
    yield from (text[at : at + DOCUMENT] for at in range(0, len(text), DOCUMENT))


def time_tiktoken(path: Path, start: int, size: int) -> float:
    """Bytes per second of tiktoken's threads, the text being in memory already."""
    texts = list(documents(path, start, size))
    begin = time.perf_counter()
    _encoding().encode_ordinary_batch(texts, num_threads=num_cores())
    return size / (time.perf_counter() - begin)


def time_sharding(path: Path, start: int, size: int, folder: Path) -> float:
    """Bytes per second from a file on the disk to verified shards."""
    part = folder / "part.txt"
    with path.open("rb") as file:
        file.seek(start)
        part.write_bytes(file.read(size).decode(errors="ignore").encode())
    begin = time.perf_counter()
    data = DataConfig(str(part), tokenizer="gpt2", max_text_mb=100_000)
    ShardMaker(data, None, lambda sentence: None).manifest()
    return size / (time.perf_counter() - begin)


def main() -> None:
    """Measures the memory of the whole text, then both in turn; prints what it finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=2000, help="megabytes of the text")
    parser.add_argument("--rounds", type=int, default=5, help="parts that are timed")
    parser.add_argument("--folder", type=Path, help="where there is room for twice the text")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    os.environ["KERAS_LM_CACHE"] = str(folder / "cache")
    try:
        text = folder / "text.txt"
        make_text(text, arguments.mb)
        begin = time.perf_counter()
        with PeakMemory() as peak:
            data = DataConfig(str(text), tokenizer="gpt2", max_text_mb=100_000)
            ShardMaker(data, None, print).manifest()
        seconds = time.perf_counter() - begin
        print(f"whole text: {seconds:.0f} s, peak of all processes {peak.bytes / 1e6:.0f} MB")
        size = text.stat().st_size // arguments.rounds
        ratios = []
        for index in range(arguments.rounds):
            theirs = time_tiktoken(text, index * size, size)
            ours = time_sharding(text, index * size, size, folder)
            ratios.append(ours / theirs)
            rates = f"tiktoken {theirs / 1e6:.1f} MB/s, here {ours / 1e6:.1f} MB/s"
            print(f"part {index + 1}: {rates}, ratio {ratios[-1]:.2f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.2f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
