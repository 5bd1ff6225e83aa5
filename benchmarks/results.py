"""RESULTS.md: the last table of each benchmark on each processor, with versions and date."""

import datetime
import importlib.metadata
import os
import re
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = "# Results\n\nEach section is written by its benchmark, as it was printed.\n"
PACKAGES = ("tensorflow", "keras", "torch", "transformers", "keras-hub")


class Report:
    """A section of RESULTS.md in the making; every line is printed as it comes.

    Args:
        title: what the section is called, the processor being added; one of that name is replaced.
    """

    def __init__(self, title: str):
        self.title, self.lines = f"{title}, {processor()}", []

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


def circumstances() -> str:
    """Date, machine and versions in a line."""
    versions = [f"{name} {version}" for name in PACKAGES if (version := installed(name))]
    machine = f"{os.cpu_count()} cores of {processor()}"
    return f"{datetime.date.today()}; {machine}; {', '.join(versions)}."


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
