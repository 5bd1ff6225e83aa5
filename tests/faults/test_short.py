"""The scripts beside this file in their short form, each in a process of its own."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path != Path(__file__))
SHORT_FORMS = {
    "saves": ["--short"],
    "texts": ["--short"],
    "kills": ["--kills", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT_FORMS)
def test_the_short_form_keeps_every_promise(name):
    command = [sys.executable, "-m", f"tests.faults.{name}", *SHORT_FORMS[name]]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(process.stdout)
    assert process.returncode == 0, process.stdout + process.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_is_run_by_hand_finds_what_it_imports(name):
    assert callable(importlib.import_module(f"tests.faults.{name}").main)
