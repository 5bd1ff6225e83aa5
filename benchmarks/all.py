"""All benchmarks one after the other, once, such as for a machine with another processor or a GPU.

    pip install torch==2.13.0 transformers==5.23.0 keras-hub==0.32.0   # the peers
    python -m benchmarks.all [--only train attention] [--without ablation budgets]

Takes hours with everything; leave the machine alone. Most benchmarks write their own section of
RESULTS.md, under the name of the GPU where there is one, the others print; one that fails does not
end the others.
"""

import argparse
import subprocess
import sys
import time

from benchmarks.results import device
from benchmarks.turns import PROJECT

# The shorter ones first.
NAMES = (
    "quick_start",
    "page",
    "attention",
    "generate",
    "train",
    "recall",
    "slots",
    "estimates",
    "distributed",
    "large_text",
    "time_to_loss",
    "task_races",
    "quality",
    "budgets",
    "ablation",
)


def main() -> None:
    """Runs what is asked for; says what took how long, and what failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=NAMES, choices=NAMES)
    parser.add_argument("--without", nargs="*", default=(), choices=NAMES)
    arguments = parser.parse_args()
    print(f"On {device()}.")
    failed = []
    for name in (name for name in arguments.only if name not in arguments.without):
        begin = time.monotonic()
        code = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=PROJECT).returncode
        print(f"{name}: {'failed' if code else 'done'} after {time.monotonic() - begin:.0f} s")
        failed += [name] * bool(code)
    sys.exit(f"Failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
