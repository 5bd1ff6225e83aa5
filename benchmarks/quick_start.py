"""Quick start from outside: when each part of the start is over, and what the minute teaches.

    python -m benchmarks.quick_start [--runs 3] [--watched]

Each run is the command line in a new process and folder. `--watched` measures what the page costs
instead: during one longer run Chromium, on the same machine, shows the run and an empty page in
turn, and the speed of training with the one is compared with that in the neighbouring turns.
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

from keras_lm.storage.run_folder import RunFolder
from keras_lm.storage.run_names import new_run_id

PROJECT = Path(__file__).resolve().parents[1]
PORT = 8599
WATCHED_STEPS = 1_000_000  # more than any machine makes in these turns
TURNS, TURN_SECONDS, SETTLING_SECONDS = 7, 15.0, 4.0  # turns: first and last without the page
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
        shown = {
            "text": status.get("message") == "Loading TensorFlow.",
            "import": status.get("message") == "Building the model.",
            "build": status.get("message") == "Compiling the first step.",
            "compile": status.get("state") == "training",
            "first loss": folder.events_file.exists() and has_point(folder),
        }
        for part, is_over in shown.items():
            if is_over:
                ends.setdefault(part, time.monotonic() - begin)
        time.sleep(0.02 if len(ends) < len(shown) else 0.5)
    return folder, ends | {"total": time.monotonic() - begin}


def has_point(folder: RunFolder) -> bool:
    """Whether there is a point of the loss curve."""
    return any(event["kind"] == "metrics" for event in folder.read_events()[0])


@contextmanager
def browser_page(root: Path) -> Iterator:
    """A server on the folder of runs, and a page of Chromium."""
    from playwright.sync_api import sync_playwright

    from tests.ui.browsing import FLAGS, find_browser

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
            browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
            yield browser.new_page(viewport={"width": 1400, "height": 1000})
            browser.close()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def watching_cost(root: Path) -> None:
    """Prints how much slower a step is while the page shows the run, turn by turn."""
    folder = RunFolder(root / new_run_id())
    words = [sys.executable, "-m", "keras_lm", "train", "--run-dir", str(folder.path)]
    words += ["--steps", str(WATCHED_STEPS), "--eval-every", "0", "--sample-every", "0"]
    with browser_page(root) as page:
        process = subprocess.Popen(words, cwd=PROJECT, stderr=subprocess.DEVNULL)
        try:
            while not folder.read_events()[0]:
                time.sleep(0.5)
            turns = []
            for turn in range(TURNS):
                page.goto(
                    f"http://127.0.0.1:{PORT}/?run={folder.run_id}" if turn % 2 else "about:blank"
                )
                time.sleep(SETTLING_SECONDS)
                first = folder.read_events()[0][-1]
                time.sleep(TURN_SECONDS)
                last = folder.read_events()[0][-1]
                seconds = last["train_seconds"] - first["train_seconds"]
                turns.append(seconds / (last["step"] - first["step"]))
        finally:
            process.terminate()
            process.wait()
    # Each turn with the page against the mean of the turns before and after it.
    ratios = [2 * turns[i] / (turns[i - 1] + turns[i + 1]) for i in range(1, TURNS - 1, 2)]
    print(f"Milliseconds per step, turn by turn: {', '.join(f'{1e3 * t:.1f}' for t in turns)}")
    print(
        f"A step with the page against without: median {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f}"
    )


def main() -> None:
    """Prints a row per run, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--watched", action="store_true")
    arguments = parser.parse_args()
    if arguments.watched:
        with tempfile.TemporaryDirectory() as temporary:
            watching_cost(Path(temporary))
        return
    print("| run | " + " | ".join(PARTS) + " | training | validation loss | unigram entropy |")
    print("|" + "---|" * (len(PARTS) + 4))
    for seed in range(1, arguments.runs + 1):
        with tempfile.TemporaryDirectory() as temporary:
            folder, ends = quick_start(Path(temporary), seed)
            last = [e for e in folder.read_events()[0] if e["kind"] == "metrics"][-1]
            cells = [f"{ends[part]:.1f} s" for part in PARTS]
            cells += [f"{last['train_seconds']:.1f} s", f"{last['val_loss']:.3f}"]
            cells += [f"{folder.read_status()['unigram_entropy']:.3f}"]
            print(f"| seed {seed} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
