"""The installed package: what the wheel holds, and that it works outside of the clone."""

import configparser
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

ROOT = Path(__file__).parents[1]
PIN = re.compile(r"^([\w.\[\]-]+)==([^\s;]+)", re.MULTILINE)
TINY = "--steps 2 --batch-size 2 --context-length 16 --d-model 16 --num-heads 2 --ffn-dim 16"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this clone, without what it depends on."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(folder), str(ROOT)], check=True)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the unpacked wheel, as pip leaves it."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, str(wheel)], check=True)
    return folder


@pytest.fixture
def environment(installed):
    """The environment in which the installed package is the one that Python finds."""
    left_out = ("KERAS_LM_RUNS", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {"PYTHONPATH": str(installed)}


@pytest.fixture
def command(installed):
    """The command `keras-lm`, with this environment's Python."""
    return [sys.executable, str(installed / "bin" / "keras-lm")]


def test_the_wheel_holds_every_file_of_the_package_and_what_stands_beside_it(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = [path for path in (ROOT / "keras_lm").rglob("*") if path.is_file()]
    own = {str(path.relative_to(ROOT)) for path in package if path.suffix != ".pyc"}
    beside = [".streamlit/config.toml", "streamlit_app.py"]
    beside += [str(path.relative_to(ROOT)) for path in (ROOT / "data").iterdir()]
    missing = own.union(f"keras_lm/shipped/{name}" for name in beside) - names
    assert missing == set()
    strange = {name for name in names if not name.startswith(("keras_lm/", "keras_lm-"))}
    assert strange == set()


def test_the_wheel_has_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        points = configparser.ConfigParser()
        points.read_string(archive.read(name).decode())
    assert dict(points["console_scripts"]) == {"keras-lm": "keras_lm.__main__:main"}


def test_what_the_project_depends_on_is_pinned_and_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split("[><=]", line)[0] for line in project["dependencies"]}
    pinned = dict(PIN.findall((ROOT / "requirements.txt").read_text()))
    locked = dict(PIN.findall((ROOT / "requirements.lock").read_text()))
    assert pinned.keys() == needed
    assert {name: locked.get(name) for name in pinned} == pinned
    tools = {re.split("[><=]", line)[0] for line in project["optional-dependencies"]["test"]}
    assert dict(PIN.findall((ROOT / "tests" / "requirements.txt").read_text())).keys() == tools


def test_a_run_outside_of_the_clone(command, environment, installed, tmp_path):
    def run(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    trained = run("train", "--run-dir", "mine", "--data", "alice", *TINY.split())
    assert trained.returncode == 0, trained.stderr
    exported = run("export", "--run-dir", "mine", "--out", "mine.keras")
    assert exported.returncode == 0, exported.stderr
    checked = run("check", "mine.keras")
    assert checked.returncode == 0, checked.stderr
    refused = run("check", "missing.keras", "--loud")
    assert refused.returncode == 2
    assert refused.stderr == "Unrecognized arguments: --loud (try keras-lm --help)\n"
    program = "import keras_lm; print(keras_lm.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    )
    assert found.stdout.decode().strip() == str(installed / "keras_lm" / "__init__.py")


def test_the_page_outside_of_the_clone(command, environment, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ["--server.port", str(port), "--server.headless", "true"]
    process = subprocess.Popen([*command, "ui", *flags], cwd=tmp_path, env=environment)
    try:
        answer, deadline = b"", time.monotonic() + 30
        while answer != b"ok" and time.monotonic() < deadline:
            time.sleep(0.1)
            with contextlib.suppress(OSError):
                answer = urlopen(f"http://localhost:{port}/_stcore/health", timeout=5).read()
        assert answer == b"ok"
        connections = psutil.Process(process.pid).net_connections()
        listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
        # The options beside the page's script are in use: by itself Streamlit listens everywhere.
        assert listening and listening <= {"127.0.0.1", "::1"}
    finally:
        process.terminate()
        process.wait(timeout=20)


USE_OF_THE_PAGE = """
from pathlib import Path
from streamlit.testing.v1 import AppTest
from keras_lm.data import text_work
from keras_lm.keras_file.opening import check_model_file
from keras_lm.system import machine, paths
from keras_lm.settings.config import DataConfig
from keras_lm.ui.reach import STYLED

page = AppTest.from_file(str(paths.PAGE_SCRIPT), default_timeout=60)
page.session_state[STYLED] = True
page.run()
assert not page.exception and page.button, page.exception
assert machine.matrix_flops_per_second() > 0
text_work.SMALL_BYTES = 0  # so that a process of its own reads the text
assert text_work.ask("facts", DataConfig("alice"), context_length=16)["vocab_size"] > 50
check_model_file(Path("mine.keras"))
print(paths.runs_folder())
"""


def test_what_the_page_uses_outside_of_the_clone(environment, sound, tmp_path):
    shutil.copy(sound, tmp_path / "mine.keras")
    process = subprocess.run(
        [sys.executable, "-c", USE_OF_THE_PAGE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == str(tmp_path / "runs")
