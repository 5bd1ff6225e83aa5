"""A server of the page for a test: on a free port, with its own folder of runs."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]


def free_port(wanted: Sequence[int] = (0,)) -> int:
    """The first of `wanted` that is free; 0: any."""
    for port in wanted:
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return free.getsockname()[1]
    raise RuntimeError(f"Expected a free port, but these are all in use: {wanted}.")


@contextlib.contextmanager
def page_server(runs: Path, *flags: str, port: int = 0) -> Iterator[tuple[int, psutil.Process]]:
    """Starts `streamlit run` with `flags`; gives its port and process once it answers.

    Without a `port` it is one that is free.
    """
    port = port or free_port()
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
