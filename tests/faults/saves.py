"""Checkpoints under kill -9 and damage: no bad one is ever selected, no saved one lost.

`python -m tests.faults.saves [--short]` saves in forked processes that are killed at random moments
and at every boundary of a save, flips bits and cuts files, and prints how often.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from keras_lm.storage.files import PARTIAL
from keras_lm.training import checkpoint
from keras_lm.training.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint

VALUES = 200_000
BOUNDARIES = ("mkdtemp", "mkdir", "open", "fsync", "replace", "rmtree")


def state(step: int) -> tuple[list[np.ndarray], dict]:
    """What the run has at that step."""
    generator = np.random.default_rng(step)
    return [generator.random(VALUES, "float32"), np.uint32([step])], {"seconds": step / 7}


def save(folder: Path, step: int) -> None:
    """Saves that state."""
    save_checkpoint(folder, step, *state(step))


def is_sound(found: Checkpoint) -> bool:
    """Whether a checkpoint has every bit of its step's state."""
    arrays, position = state(found.step)
    same = all(a.tobytes() == b.tobytes() for a, b in zip(found.arrays, arrays, strict=True))
    return same and found.position == position


def forked(work) -> tuple[int, int]:
    """Starts `work(acknowledge)` in a process; returns its id and where its words can be read."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child:
        os.close(write_end)
        return child, read_end
    try:
        work(lambda step: os.write(write_end, step.to_bytes(8, "little")))
    finally:
        os._exit(0)


def end(child: int, words: int) -> tuple[int, int]:
    """Waits for the process; the last step it acknowledged (0: none), and the signal it died of."""
    with os.fdopen(words, "rb") as pipe:
        reported = pipe.read()
    _, status = os.waitpid(child, 0)
    return int.from_bytes(reported[len(reported) // 8 * 8 - 8 :][:8], "little"), status & 127


def kill_at_random(folder: Path, count: int, seed: int = 1) -> dict:
    """A process saves step after step and is killed; the next goes on from the newest."""
    result, moments = (
        {"kills": 0, "amid a save": 0, "bad selected": 0, "lost": 0},
        random.Random(seed),
    )

    def work(acknowledge):
        found, _ = latest_checkpoint(folder)
        step = found.step if found else 0
        while True:
            step += 1
            save(folder, step)
            acknowledge(step)

    for _ in range(count):
        child, words = forked(work)
        time.sleep(moments.uniform(0.01, 0.12))
        os.kill(child, signal.SIGKILL)
        acknowledged, _ = end(child, words)
        found, damaged = latest_checkpoint(folder)
        result["kills"] += 1
        result["amid a save"] += any(folder.glob(f"{PARTIAL}*"))
        result["bad selected"] += bool(damaged) or (found is not None and not is_sound(found))
        result["lost"] += (found.step if found else 0) < acknowledged
        for left in folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(left)
    return result


def kill_at_boundaries(folder: Path) -> dict:
    """A save is killed before and after each of its calls to the system, one at a time."""
    result = {"boundaries": 0, "bad selected": 0, "lost": 0}
    finished, number = False, 0
    while not finished:
        number += 1
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for step in (1, 2, 3):
            save(folder, step)
        damaged_target = folder / "step-00000004"  # what a damaged one leaves to be replaced
        shutil.copytree(folder / "step-00000003", damaged_target)
        (damaged_target / checkpoint.STATE_FILE).write_bytes(b"")

        def work(acknowledge, number=number):
            count_down(number)
            save(folder, 4)
            acknowledge(4)

        acknowledged, ended_by = end(*forked(work))
        finished = ended_by != signal.SIGKILL
        found, _ = latest_checkpoint(folder)
        result["boundaries"] += not finished
        result["bad selected"] += not is_sound(found)
        result["lost"] += found.step < max(3, acknowledged)
    return result


def count_down(number: int) -> None:
    """Kills this process at the boundary with that number: before or after a call."""
    passed = 0

    def boundary():
        nonlocal passed
        passed += 1
        if passed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(module, name):
        real = getattr(module, name)

        def watched(*args, **kwargs):
            boundary()
            value = real(*args, **kwargs)
            boundary()
            return value

        setattr(module, name, watched)

    for module, names in ((os, BOUNDARIES), (tempfile, BOUNDARIES), (shutil, BOUNDARIES)):
        for name in names:
            if hasattr(module, name) and not (module is shutil and name != "rmtree"):
                watch(module, name)


def damage(folder: Path, count: int, seed: int = 1) -> dict:
    """A bit of a file of the newest checkpoint is flipped, or the file cut."""
    result = {"flips": 0, "cuts": 0, "bad selected": 0, "previous used and reported": 0}
    shutil.rmtree(folder, ignore_errors=True)
    for step in (1, 2):
        save(folder, step)
    moments = random.Random(seed)
    files = sorted((folder / "step-00000002").iterdir())
    for number in range(count):
        file = files[number % len(files)]
        content = file.read_bytes()
        place = moments.randrange(len(content))
        if moments.random() < 0.5:
            flipped = bytes([content[place] ^ 1 << moments.randrange(8)])
            file.write_bytes(content[:place] + flipped + content[place + 1 :])
            result["flips"] += 1
        else:
            file.write_bytes(content[:place])
            result["cuts"] += 1
        found, damaged = latest_checkpoint(folder)
        result["bad selected"] += not is_sound(found)
        result["previous used and reported"] += found.step == 1 and damaged == [2]
        file.write_bytes(content)
    return result


def main() -> int:
    """Prints the counts; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    with tempfile.TemporaryDirectory() as name:
        results = {
            "killed at random": kill_at_random(Path(name, "random"), 10 if short else 200),
            "killed at boundaries": kill_at_boundaries(Path(name, "boundaries")),
            "damaged": damage(Path(name, "damaged"), 30 if short else 600),
        }
    broken = False
    for title, result in results.items():
        print(f"{title}: {', '.join(f'{value} {key}' for key, value in result.items())}")
        broken |= bool(result["bad selected"]) or bool(result.get("lost"))
    harmed = results["damaged"]
    broken |= harmed["previous used and reported"] != harmed["flips"] + harmed["cuts"]
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
