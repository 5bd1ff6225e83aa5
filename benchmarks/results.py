"""RESULTS.md: the last table of each benchmark on each processor, with versions and date."""

import csv
import datetime
import importlib.metadata
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = (
    "# Results\n\nEach section is as its benchmark printed it; those that keep no section are in "
    "docs/results.md alone.\n"
)
PACKAGES = ("tensorflow", "keras", "torch", "transformers", "keras-hub")


class Report:
    """A section of RESULTS.md in the making; every line is printed as it comes.

    Args:
        title: what the section is called, the device being added; one of that name is replaced.
    """

    def __init__(self, title: str):
        self.title, self.lines = f"{title}, {device()}", []

    def line(self, text: str) -> None:
        """Adds a line of Markdown."""
        print(text, flush=True)
        self.lines.append(text)

    def write(self) -> None:
        """Puts the section into RESULTS.md."""
        text = RESULTS.read_text() if RESULTS.exists() else HEAD
        head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
        own = f"{self.title}\n\n{circumstances()}\n\n" + "\n".join(self.lines).strip() + "\n\n"
        named = {section.partition("\n")[0]: section.strip() + "\n\n" for section in sections}
        named[self.title] = own
        body = "".join(f"## {named[title]}" for title in sorted(named))
        RESULTS.write_text(f"{head.strip()}\n\n{body.strip()}\n")


class Rows:
    """Measurements in a CSV file, kept one by one, so that what is interrupted goes on.

    Args:
        path: the file; made with the first row.
        columns: their names; the file has the device before them.
    """

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path, self.columns = path, columns

    def read(self) -> pd.DataFrame:
        """All rows of this device so far."""
        if not self.path.exists():
            return pd.DataFrame(columns=[*self.columns])
        rows = pd.read_csv(self.path)
        return rows[rows.device == device()].drop(columns="device")

    def keep(self, *row) -> None:
        """Adds one row and shows it."""
        is_new = not self.path.exists()
        with open(self.path, "a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            head = [("device", *self.columns)] if is_new else []
            writer.writerows([*head, (device(), *row)])
        print(*row, flush=True)


def circumstances() -> str:
    """Date, machine and versions in a line."""
    versions = [f"{name} {version}" for name in PACKAGES if (version := installed(name))]
    machine = f"{os.cpu_count()} cores of {processor()}"
    machine += f", {device()}" if device() != processor() else ""
    return f"{datetime.date.today()}; {machine}; {', '.join(versions)}."


def device() -> str:
    """What computes: the machine's GPUs by name, else its processor."""
    if not shutil.which("nvidia-smi"):
        return processor()
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    shown = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    names = [f"{count} x {name}" for name, count in Counter(shown).items()]
    return ", ".join(names) or processor()


def processor() -> str:
    """The processor's name, without its trade marks."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = re.sub(r"\(\w+\)|Processor", "", cpu[1]) if cpu else "an unknown processor"
    return " ".join(name.split())


def installed(name: str) -> str | None:
    """A package's version, if it is here."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
