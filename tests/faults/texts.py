"""Texts made to take time or memory: each is read and tokenized, or refused in a sentence.

`python -m tests.faults.texts [--short]` prints the most that one took, in a process of its own.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from keras_lm.data import corpus
from keras_lm.settings.config import DataConfig

MEGABYTE = 1_000_000
MAX_SECONDS, MAX_MEGABYTES = 10.0, 1000.0


def of(characters: str, size: int) -> bytes:
    """`size` bytes of a text that repeats `characters`."""
    once = characters.encode()
    return once * (size // len(once))


def shuffled(characters: str, size: int) -> bytes:
    """One line of `size` bytes of these characters in any order."""
    count = size // len(characters[0].encode())
    return "".join(random.Random(1).choices(characters, k=count)).encode()


TEXTS = {  # of a size in bytes
    "one letter": lambda size: of("a", size),
    "one accented letter": lambda size: of("é", size),
    "one Chinese sign": lambda size: of("漢", size),
    "one emoji": lambda size: of("😀", size),
    "one digit": lambda size: of("1", size),
    "full stops": lambda size: of(".", size),
    "apostrophes": lambda size: of("'", size),
    "accents without letters": lambda size: b"e" + of("\u0301", size),
    "joiners": lambda size: of("\u200d", size),
    "control signs": lambda size: of("\x01", size),
    "spaces": lambda size: b"a" + of(" ", size) + b"a",
    "wide spaces": lambda size: b"a" + of("\u00a0", size) + b"a",
    "tabs": lambda size: b"a" + of("\t", size) + b"a",
    "new lines": lambda size: b"a" + of("\n", size) + b"a",
    "one line of letters": lambda size: shuffled("abcdefghij", size),
    "one line of Cyrillic": lambda size: shuffled("абвгдежз", size),
    "one line of Chinese": lambda size: shuffled("".join(map(chr, range(0x4E00, 0x9000))), size),
    "letters and spaces": lambda size: of("a ", size),
    "letters and digits": lambda size: of("a1", size),
    "nothing but NULs": lambda size: bytes(size),
    "Latin-1": lambda size: "é".encode("latin-1") * size,
}


def take(path: str, tokenizer: str, cleaning: str) -> dict:
    """Reads the text as a run would; what it took, and the sentence if it was refused."""
    begin, refusal = time.perf_counter(), None
    try:
        data = DataConfig(data=path, tokenizer=tokenizer, cleaning=cleaning)
        corpus.prepare(data, context_length=8)
    except ValueError as error:
        refusal = str(error)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - begin, "megabytes": memory, "refusal": refusal}


def in_a_process(path: Path, tokenizer: str, cleaning: str) -> dict:
    """`take`, with the memory of this text alone."""
    words = [sys.executable, "-m", "tests.faults.texts", "--take", str(path), tokenizer, cleaning]
    return json.loads(subprocess.run(words, check=True, capture_output=True).stdout)


def main() -> int:
    """Prints what the texts took; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a twentieth of the size, fewer texts")
    parser.add_argument("--take", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.take:
        print(json.dumps(take(*arguments.take)))
        return 0
    size = MEGABYTE // 2 if arguments.short else 10 * MEGABYTE
    names = ["spaces", "new lines", "one letter", "Latin-1"] if arguments.short else [*TEXTS]
    results, broken = [], False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text.txt")
        for name in names:
            path.write_bytes(TEXTS[name](size))
            for tokenizer, cleaning in (("gpt2", "none"), ("char", "classic")):
                result = in_a_process(path, tokenizer, cleaning)
                results.append(result)
                if not arguments.short:
                    figures = "{seconds:6.2f} s {megabytes:5.0f} MB".format(**result)
                    print(f"{name:24} {tokenizer:4} {figures} {result['refusal'] or ''}"[:150])
        with path.open("wb") as file:
            file.truncate(1000 * MEGABYTE)
        gigabyte = in_a_process(path, "gpt2", "none")
        broken |= gigabyte["refusal"] is None or gigabyte["megabytes"] > 500
    slowest = max(result["seconds"] for result in results)
    largest = max(result["megabytes"] for result in results)
    refused = sum(result["refusal"] is not None for result in results)
    print(
        f"{len(results)} texts of {size:,} bytes, {refused} refused; the slowest took "
        f"{slowest:.2f} s, the largest {largest:.0f} MB; 1 GB refused in "
        f"{gigabyte['seconds']:.2f} s and {gigabyte['megabytes']:.0f} MB"
    )
    return int(broken or slowest > MAX_SECONDS or largest > MAX_MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
