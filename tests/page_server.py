"""A server of the page for a test: on a free port, with its own folder of runs."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def page_server(runs: Path, *flags: str) -> Iterator[tuple[int, psutil.Process]]:
    """Starts `streamlit run` with `flags`; gives its port and process once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["streamlit", "run", "streamlit_app.py", "--server.port", str(port), *flags]
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--server.headless", "true"],
        cwd=PROJECT,
        env=os.environ | {"KERAS_LM_RUNS": str(runs)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=20)
