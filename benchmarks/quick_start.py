"""Quick start from outside: when each part of the start is over, and what the minute teaches.

    python -m benchmarks.quick_start [--runs 3] [--watched]

Each run is the command line in a new process and folder. `--watched` runs each a second time
with the page open on it in Chromium on the same machine, in turn, and compares the training time.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_lm.run_folder import RunFolder, new_run_id

PROJECT = Path(__file__).resolve().parents[1]
CHROMIUM_FLAGS = (
    "--headless --no-sandbox --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PORT = 8599
PARTS = ("text", "import", "build", "compile", "first loss", "total")


def quick_start(root: Path, seed: int) -> tuple[RunFolder, dict[str, float]]:
    """One run; returns its folder and when, in seconds from the start, each part was over."""
    folder = RunFolder(root / new_run_id())
    begin, ends = time.monotonic(), {}
    words = [sys.executable, "-m", "keras_lm", "train", "--run-dir", str(folder.path)]
    process = subprocess.Popen(
        [*words, "--seed", str(seed)], cwd=PROJECT, stderr=subprocess.DEVNULL
    )
    while process.poll() is None:
        status = folder.read_status()
        told = {
            "text": status.get("message") == "Loading TensorFlow.",
            "import": status.get("message") == "Building the model.",
            "build": status.get("message") == "Compiling the first step.",
            "compile": status.get("state") == "training",
            "first loss": folder.events_file.exists() and bool(folder.read_events()[0]),
        }
        for part, is_over in told.items():
            if is_over:
                ends.setdefault(part, time.monotonic() - begin)
        time.sleep(0.02 if len(ends) < len(told) else 0.5)
    return folder, ends | {"total": time.monotonic() - begin}


@contextmanager
def watched(root: Path) -> Iterator[None]:
    """A server on the folder of runs, and Chromium showing the run that is active."""
    from playwright.sync_api import sync_playwright

    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
        + ["--server.port", str(PORT), "--server.headless", "true"],
        cwd=PROJECT,
        env=os.environ | {"KERAS_LM_RUNS": str(root)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=CHROMIUM_FLAGS
            )
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            time.sleep(3)
            page.goto(f"http://127.0.0.1:{PORT}")
            page.get_by_role("button", name="Start").wait_for()
            # It looks for the active run once that has had the time to appear.
            page.evaluate("setTimeout(() => location.reload(), 4000)")
            yield
            browser.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def main() -> None:
    """Prints a row a run, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--watched", action="store_true")
    arguments = parser.parse_args()
    print("| run | " + " | ".join(PARTS) + " | training | validation loss | unigram entropy |")
    print("|" + "---|" * (len(PARTS) + 4))
    training = {"alone": [], "watched": []}
    for seed in range(1, arguments.runs + 1):
        for kind in ("alone", "watched") if arguments.watched else ("alone",):
            with tempfile.TemporaryDirectory() as temporary:
                root = Path(temporary)
                if kind == "watched":
                    with watched(root):
                        folder, ends = quick_start(root, seed)
                else:
                    folder, ends = quick_start(root, seed)
                last = [e for e in folder.read_events()[0] if e["kind"] == "metrics"][-1]
                training[kind].append(last["train_seconds"])
                cells = [f"{ends[part]:.1f} s" for part in PARTS]
                cells += [f"{last['train_seconds']:.1f} s", f"{last['val_loss']:.3f}"]
                cells += [f"{folder.read_status()['unigram_entropy']:.3f}"]
                print(f"| {kind}, seed {seed} | " + " | ".join(cells) + " |", flush=True)
    if arguments.watched:
        pairs = zip(training["watched"], training["alone"], strict=True)
        ratio = statistics.median(with_page / alone for with_page, alone in pairs)
        print(f"\nTraining time with the page open, against alone: median ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
