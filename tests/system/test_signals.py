"""Ctrl-C, a closed terminal and a shutdown: the model is kept, the end is clean."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from keras_lm.generation.bundle import load
from keras_lm.storage.run_folder import STOPPED, RunFolder
from keras_lm.system import signals

TINY = "--context-length 7 --d-model 6 --num-heads 1 --num-blocks 1 --ffn-dim 5 --batch-size 3"
ENDLESS = "--data alice --steps 9999999 --eval-every 0 --sample-every 0 --checkpoint-every 0"
BEFORE_TRAINING = {"Loading TensorFlow.": 0.5, "Compiling the first step.": 0.0}


@pytest.fixture
def restored():
    before = {name: signal.getsignal(name) for name in signals.ENDING}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)
    signals._interrupted.clear()  # else what is trained later in this process would end at once


def start(folder: RunFolder) -> subprocess.Popen:
    words = [sys.executable, "-m", "keras_lm", "train", "--run-dir", str(folder.path)]
    words += f"{TINY} {ENDLESS}".split()
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run below nohup
    try:
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_for(process: subprocess.Popen, condition) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        if time.monotonic() > deadline:
            process.kill()
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)


def end(process: subprocess.Popen, name: signal.Signals) -> tuple[int, str]:
    process.send_signal(name)
    _, output = process.communicate(timeout=60)
    return process.returncode, output


def test_a_run_whose_terminal_is_closed_keeps_its_model(tmp_path):
    folder = RunFolder(tmp_path / "run")
    process = start(folder)
    wait_for(process, lambda: folder.read_events()[0])
    code, output = end(process, signal.SIGHUP)
    assert (code, folder.read_status()["state"]) == (0, STOPPED), output
    assert load(folder.model_file).config.context_length == 7
    assert "Traceback" not in output


def test_what_nohup_started_outlives_its_terminal(restored):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.on_ending(signals.interrupt)
    os.kill(os.getpid(), signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


@pytest.mark.parametrize("moment", BEFORE_TRAINING)
def test_a_run_that_ends_before_its_first_step_says_so(tmp_path, moment):
    folder = RunFolder(tmp_path / "run")
    process = start(folder)
    wait_for(process, lambda: folder.read_status().get("message") == moment)
    time.sleep(BEFORE_TRAINING[moment])
    code, output = end(process, signal.SIGHUP)
    status = folder.read_status()
    assert (code, status["state"]) == (130, STOPPED), output
    assert "before it trained a step" in status["message"]
    assert "Traceback" not in output
    assert not [name for name in os.listdir(folder.path) if name.startswith(".")]


@pytest.mark.parametrize("loaded", ["numpy", "tensorflow"])
def test_generating_ends_without_a_traceback(sound, loaded):
    """Python itself is started by then: what it says of a Ctrl-C before its program is its own."""
    words = [sys.executable, "-m", "keras_lm", "generate", "--model", str(sound)]
    words += ["--max-new-tokens", "100000"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    libraries = psutil.Process(process.pid).memory_maps
    wait_for(process, lambda: any(f"/{loaded}/" in library.path for library in libraries()))
    code, output = end(process, signal.SIGINT)
    assert code in (130, -signal.SIGINT) and output == ""


def test_a_signal_waits_for_the_end_of_a_block_that_cannot_bear_it(restored):
    done = []
    signals.on_ending(signals.interrupt)
    with pytest.raises(KeyboardInterrupt), signals.ending_later():
        os.kill(os.getpid(), signal.SIGTERM)
        done.append(1)
    assert done == [1]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


def test_an_interrupt_is_remembered_whatever_a_library_makes_of_it(restored, monkeypatch):
    monkeypatch.setattr(signals, "_interrupted", [])
    signals.on_ending(signals.interrupt)
    assert not signals.is_ending()
    with pytest.raises(SystemError):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except KeyboardInterrupt:  # as compiled code does
            raise SystemError("returned a result with an exception set") from None
    assert signals.is_ending()
