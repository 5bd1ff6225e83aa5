"""What is kept between processes: downloads, and compiled training steps and decoding loops.

XLA takes seconds to compile a step, and much memory. TensorFlow can keep what it compiled for a
processor in a folder; it reads its settings once, when it is imported. A GPU's programs are left
to its driver's own cache.
"""

import atexit
import contextlib
import hashlib
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from keras_lm.storage.files import (
    DamagedFile,
    read_plain,
    remove_leftovers,
    sha256,
    write_atomically,
)
from keras_lm.system.paths import cache_folder

MOST_BYTES = 100 * 2**20  # a few dozen programs
SEAL = ".sha256"
LEFTOVER_SECONDS = 60.0  # no write takes longer


def keep_compiled_programs() -> None:
    """Makes TensorFlow, which must not be imported yet, keep and find compiled programs.

    TensorFlow believes whatever it finds, so a program counts only with its SHA-256 beside it,
    which `seal_programs` writes when something was compiled, and when a process ends in good order.
    """
    try:
        folder = _programs_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(folder, before=time.time() - LEFTOVER_SECONDS)
        _drop_unsound_and_oldest(folder)
    except OSError:  # without a cache all works, only later
        return
    if not os.access(folder, os.W_OK):
        return
    quoted = str(folder).replace("\\", r"\\").replace('"', r"\"")  # it may contain spaces
    os.environ["TF_XLA_FLAGS"] = (
        f'--tf_xla_persistent_cache_directory="{quoted}" '
        f"--tf_xla_persistent_cache_device_types=CPU {os.environ.get('TF_XLA_FLAGS', '')}"
    )
    atexit.register(seal_programs)


def seal_programs() -> None:
    """Writes the hash of every program that has none.

    To be called when something was compiled: another process that starts removes what has no hash.
    TensorFlow writes a program under another name and renames it, so what is found is whole.
    """
    with contextlib.suppress(OSError):  # without a cache all works, only later
        for program in _programs_folder().glob("*.pb"):
            if not program.with_suffix(SEAL).exists():
                write_atomically(program.with_suffix(SEAL), sha256(program).encode())


def _programs_folder() -> Path:
    return cache_folder() / f"compiled-{_machine()}"


def _machine() -> str:
    """A short name for processor and TensorFlow: another one's program may not run here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = sorted({line for line in lines if line.startswith(("model name", "flags"))})
    except OSError:
        processor = [platform.processor()]
    description = "\n".join([*processor, platform.machine(), version("tensorflow")])
    return hashlib.sha256(description.encode()).hexdigest()[:12]


def _is_sound(program: Path) -> bool:
    try:
        seal = read_plain(program.with_suffix(SEAL), most_bytes=64)
        return seal == sha256(program).encode()
    except (OSError, DamagedFile):
        return False


def _drop_unsound_and_oldest(folder: Path) -> None:
    """Removes programs without their right hash, and the oldest of what is too much.

    OSError when something stays that TensorFlow would find.
    """
    total = 0
    for program in sorted(folder.glob("*.pb"), key=_age):
        total += program.lstat().st_size
        if total > MOST_BYTES or not _is_sound(program):
            program.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                program.with_suffix(SEAL).unlink()


def _age(program: Path) -> float:
    return -program.lstat().st_mtime
