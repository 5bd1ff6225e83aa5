"""The page's server under load: how soon it answers while a run trains, and what memory it keeps.

`python -m tests.faults.server [--short]` starts a server and a run on this machine alone, lets tabs
watch it, asks for the server's health, then opens and closes sessions and hands in large files.
"""

import argparse
import dataclasses
import http.client
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

from keras_lm.runs.supervisor import Supervisor
from keras_lm.settings.presets import QUICK_START
from tests.page_server import page_server

MAX_P99, MAX_KEPT_MEGABYTES = 0.25, 100.0
FORGETTING_SECONDS = 125.0  # Streamlit keeps a session that is gone for two minutes
UPLOAD_BYTES = 45 * 2**20
REFRESH_SECONDS = 5.0
FLAGS = ("--server.address", "127.0.0.1", "--server.enableXsrfProtection", "false")


def request(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    """The status of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def health(port: int) -> float:
    """Seconds until the health endpoint has answered."""
    begin = time.perf_counter()
    assert request(port, "GET", "/_stcore/health") == 200
    return time.perf_counter() - begin


def open_session(port: int) -> ClientConnection:
    """A tab's connection."""
    address = f"ws://127.0.0.1:{port}/_stcore/stream"
    return connect(address, subprotocols=["streamlit"], max_size=None)


def draw(tab: ClientConnection, query: str) -> str:
    """Draws the page once; returns the session's id."""
    message, session_id = BackMsg(), ""
    message.rerun_script.query_string = query
    tab.send(message.SerializeToString())
    while True:
        answer = ForwardMsg.FromString(tab.recv(timeout=60))
        if answer.WhichOneof("type") == "new_session":
            session_id = answer.new_session.initialize.session_id
        if answer.WhichOneof("type") == "script_finished":
            return session_id


def upload(port: int, session_id: str, number: int, size: int) -> int:
    """Hands in a file; the answer's status."""
    border = "border"
    head = f'--{border}\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\n'
    body = head.encode() + b"x" * size + f"\r\n--{border}--\r\n".encode()
    kind = f"multipart/form-data; boundary={border}"
    path = f"/_stcore/upload_file/{session_id}/file-{number}"
    return request(port, "PUT", path, body, **{"Content-Type": kind})


def watch(port: int, run_id: str, until: float) -> None:
    """One tab that looks at the run."""
    with open_session(port) as tab:
        while time.monotonic() < until:
            draw(tab, f"run={run_id}")
            time.sleep(REFRESH_SECONDS)


def measure_health(port: int, run_id: str, tabs: int, seconds: float) -> dict:
    """The health endpoint's answers while tabs watch a run that trains."""
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=watch, args=(port, run_id, until)) for _ in range(tabs)]
    for thread in threads:
        thread.start()
        time.sleep(REFRESH_SECONDS / tabs)
    answers = []
    while time.monotonic() < until:
        answers.append(health(port))
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    low, high = np.percentile(answers, [50, 99])
    return {"answers": len(answers), "p50": low, "p99": high, "max": max(answers)}


def measure_memory(port: int, process: psutil.Process, sessions: int, uploads: int) -> dict:
    """The server's memory before and after many sessions and large files, in megabytes."""

    def megabytes() -> float:
        return process.memory_info().rss / 2**20

    before, most, taken = megabytes(), 0.0, 0
    for _ in range(sessions):
        with open_session(port) as tab:
            draw(tab, "run=new")
    for number in range(uploads):
        with open_session(port) as tab:
            taken += upload(port, draw(tab, "run=new"), number, UPLOAD_BYTES) == 204
            most = max(most, megabytes())
    with open_session(port) as tab:
        refused = upload(port, draw(tab, "run=new"), uploads, 60 * 2**20)
    time.sleep(FORGETTING_SECONDS)
    with open_session(port) as tab:
        draw(tab, "run=new")
    return {"before": before, "most": most, "after": megabytes(), "taken": taken, "60 MB": refused}


def main() -> int:
    """Prints what was measured; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="health only")
    parser.add_argument("--tabs", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, page_server(Path(name), *FLAGS) as (port, process):
        runs, kept = Supervisor(Path(name)), 0.0
        long = QUICK_START.training.changed(steps=100_000)
        run_id = runs.start(dataclasses.replace(QUICK_START, training=long))
        try:
            while not runs.folder(run_id).read_events()[0]:
                assert runs.summary(run_id).is_active
                time.sleep(0.1)
            answers = measure_health(port, run_id, arguments.tabs, 30)
            assert runs.summary(run_id).state == "training", "it ended too early"
        finally:
            os.kill(runs.folder(run_id).read_status()["pid"], signal.SIGKILL)
        print("health:", ", ".join(f"{key} {value:.4g}" for key, value in answers.items()))
        if not arguments.short:
            memory = measure_memory(port, process, sessions=300, uploads=20)
            kept = memory["after"] - memory["before"]
            print("memory:", ", ".join(f"{key} {value:.0f}" for key, value in memory.items()))
    return int(answers["p99"] > MAX_P99 or kept > MAX_KEPT_MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
