"""What the machine gives: memory within control groups, cores, speed idle and busy."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from keras_lm.system import machine


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """Writes the control groups of this process: its own list, and limits by folder and file."""

    def write(own: str, **limits: int | str) -> None:
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
        monkeypatch.setattr(machine, "CGROUPS", tmp_path / "groups")
        for path, limit in limits.items():
            file = tmp_path / "groups" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{limit}\n")

    return write


V1, V2 = "memory.limit_in_bytes", "memory.max"


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/\n", {V2: 5000}, 5000),
        ("0::/a/b\n", {f"a/b/{V2}": "max", f"a/{V2}": 7000}, 7000),
        ("0::/a/b\n", {f"a/b/{V2}": 6000, f"a/{V2}": 7000}, 6000),
        ("0::/outside/seen\n", {V2: 5000}, 5000),
        ("4:cpu,memory:/x:y\n0::/\n", {f"memory/x:y/{V1}": 4000}, 4000),
        ("4:memory:/x\n", {f"memory/x/{V1}": 9223372036854771712, f"memory/{V1}": 8000}, 8000),
        ("0::/\n", {V2: "max"}, None),
        ("3:cpu:/\n", {V2: 5000}, None),
        ("", {}, None),
    ],
)
def test_the_memory_is_what_the_control_groups_allow(groups, own, limits, expected):
    groups(own, **limits)
    assert machine.total_memory() == (expected or psutil.virtual_memory().total)


def test_without_control_groups_the_memory_is_the_machines(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "none")
    assert machine.total_memory() == psutil.virtual_memory().total


def test_cores_are_those_that_this_process_may_run_on(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert machine.num_cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.num_cores() == os.cpu_count()


def test_the_speed_is_right_while_other_programs_use_every_core():
    """Against the best of several tries before; under load of the tests' own too."""
    idle = max(machine.matrix_flops_per_second() for _ in range(3))
    program = "import time, os; p = os.getppid()\nwhile os.getppid() == p: pass"
    burners = [
        subprocess.Popen([sys.executable, "-c", program]) for _ in range(machine.num_cores())
    ]
    try:
        time.sleep(0.2)
        busy = [machine.matrix_flops_per_second() for _ in range(3)]
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert idle / 1.5 < sorted(busy)[1] < idle * 1.5
    assert 1e8 < idle < 1e15


def test_programs_at_work_count_with_what_they_use(monkeypatch):
    monkeypatch.setattr(machine, "WORKING_SECONDS", 0.1)
    monkeypatch.setattr(machine, "WORKING_CORES", 0.05)  # the tests beside this one have the rest
    program = "import os; p = os.getppid()\nwhile os.getppid() == p: pass"
    burner = subprocess.Popen([sys.executable, "-c", program])
    both = [psutil.Process(), psutil.Process(burner.pid)]  # other tests start programs, too
    monkeypatch.setattr(psutil, "process_iter", lambda: both)
    try:
        end = time.monotonic() + 60
        while not (load := machine.load_of_others()) and time.monotonic() < end:
            pass  # it has hardly begun, or other tests have all cores for a moment
        assert 0.05 <= machine.num_cores() * load < 1.1
        assert machine.load_of_others({burner.pid}) == 0.0
        burner.send_signal(signal.SIGSTOP)  # it has worked, and works no more
        assert machine.load_of_others() == 0.0
        burner.send_signal(signal.SIGCONT)
        if hasattr(os, "sched_getaffinity") and machine.num_cores() > 1:
            core, *_ = os.sched_getaffinity(0)
            os.sched_setaffinity(burner.pid, {core})
            monkeypatch.setattr(os, "sched_getaffinity", lambda _: {core + 1, core + 2})
            assert machine.load_of_others() == 0.0  # on another core
    finally:
        burner.kill()
        burner.wait()


def test_gpus_are_counted_by_their_devices(tmp_path):
    assert machine.num_gpus(tmp_path / "missing") == 0
    for name in ("nvidia0", "nvidia12", "nvidiactl", "nvidia-uvm", "nvidia0p1", "sda1"):
        (tmp_path / name).touch()
    assert machine.num_gpus(tmp_path) == 2
