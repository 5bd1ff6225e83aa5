"""The scripts beside this file in their short form, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
