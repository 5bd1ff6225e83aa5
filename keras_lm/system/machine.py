"""What this machine gives a process: memory, cores, how fast they multiply matrices, versions.

A container or `taskset` may allow less than the machine has; psutil and os.cpu_count do not know.
"""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
import tomllib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import psutil

from keras_lm.system.paths import PROJECT

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
MEASURING_SECONDS = 0.05
PATIENCE_SECONDS = 10.0
WORKING_CORES, WORKING_SECONDS = 0.5, 10.0  # a program is at work that uses so much for so long
WATCHING_SECONDS = 0.1
LIBRARIES = ("tensorflow", "keras", "numpy")  # on which a run's numbers depend
# NumPy decides how many threads multiply when it is imported.
ONE_THREAD = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def total_memory() -> int:
    """Bytes that this process may use: the machine's, or what its control groups allow."""
    return min([psutil.virtual_memory().total, *_cgroup_limits()])


def _cgroup_limits() -> list[int]:
    """Limits of memory of this process's control groups and of all above them, version 1 or 2.

    Inside a container the folder of a group may be the root of what is seen, so the root counts.
    """
    limits = []
    with contextlib.suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                root, name = CGROUPS / "memory", "memory.limit_in_bytes"
            elif not controllers:
                root, name = CGROUPS, "memory.max"
            else:
                continue
            group = Path(path.lstrip("/"))
            for folder in [group, *group.parents]:
                with contextlib.suppress(OSError, ValueError):  # "max" is no limit
                    limits.append(int((root / folder / name).read_text()))
    return limits


def num_gpus(devices: Path = Path("/dev")) -> int:
    """How many GPUs of NVIDIA this machine has, without loading their libraries.

    Args:
        devices: the folder of the system's devices.
    """
    return sum(name.name[6:].isdecimal() for name in devices.glob("nvidia[0-9]*"))


def num_cores() -> int:
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_of_others(own: Collection[int] = ()) -> float:
    """What other programs use of this process's cores: 0 is nothing, 1 as much as there is.

    Those count that have been at work for a while and still are, with what they used on average,
    so that the number is steady. Takes 0.1 seconds when there are any.

    Args:
        own: ids of processes that do not count; nor does this one.
    """
    at_work: dict[psutil.Process, tuple[float, float]] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            age, used = time.time() - process.create_time(), _processor_seconds(process)
            average = used / max(age, WORKING_SECONDS)
            if average >= WORKING_CORES and process.pid not in (os.getpid(), *own):
                at_work[process] = average * _share_here(process), used
    time.sleep(WATCHING_SECONDS if at_work else 0.0)
    cores = 0.0
    for process, (average, before) in at_work.items():
        with contextlib.suppress(psutil.Error):
            used = _processor_seconds(process) - before
            cores += average * (used >= WORKING_CORES * WATCHING_SECONDS)
    return cores / num_cores()


def _processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _share_here(process: psutil.Process) -> float:
    """How many of the cores that another process may use this one may use, too, of 1."""
    if not hasattr(os, "sched_getaffinity"):  # not on macOS
        return 1.0
    theirs = process.cpu_affinity() or []
    return len(os.sched_getaffinity(0).intersection(theirs)) / max(1, len(theirs))


def describe_machine(cores: int = 0) -> str:
    """Processor, cores, memory and system in a few words, for people.

    Args:
        cores: that a process uses; 0: all that this one may run on.
    """
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # Linux alone has this file
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    memory = f"{total_memory() / 2**30:.1f} GB of memory"
    cores = cores or num_cores()
    return f"{name}, {cores} core{'s' * (cores > 1)}, {memory}, {platform.platform()}"


def versions() -> str:
    """The versions of Python, of this package and of what a run is calculated with."""
    found = [f"Python {platform.python_version()}", f"keras_lm {_own_version()}"]
    return ", ".join(
        [*found, *(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)]
    )


def _own_version() -> str:
    try:
        return importlib.metadata.version("keras_lm")
    except importlib.metadata.PackageNotFoundError:  # run from a clone
        return tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]


def matrix_flops_per_second() -> float:
    """The rate of matrix products on one core, times the cores; takes about 0.15 seconds.

    A process of its own measures it, with one thread: several would wait for each other whenever
    something else runs, and this process has NumPy's threads already.
    """
    command = [sys.executable, "-m", "keras_lm.system.machine"]
    answer = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | ONE_THREAD,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return num_cores() * float(answer.stdout)


def measure_one_core() -> float:
    """The best rate of small products, each within a slice of the processor's time."""
    size = 96
    a = np.ones((size, size), "float32")
    product = np.empty_like(a)
    end, best = time.perf_counter() + MEASURING_SECONDS, float("inf")
    while time.perf_counter() < end:
        begin = time.perf_counter()
        np.matmul(a, a, out=product)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


if __name__ == "__main__":
    print(measure_one_core())
