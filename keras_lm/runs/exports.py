"""A run's model in other formats, each written by a process of its own while the page goes on."""

import re
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.paths import PROJECT, environment_for_children

STAGE = re.compile(r"([0-9]+)/([0-9]+) (.*)")  # as the command line says how far it is
NO_REASON = "Expected a file, but the process ended: it was killed, or memory ran out."


class Progress(NamedTuple):
    """How far an export is.

    Attributes:
        file: the finished file; None before.
        part: from 0 to 1, how much is done; None when nothing is in progress.
        message: what is being done, why it failed, or of a file what to know before it is used; ""
            when there is nothing to say.
    """

    file: Path | None = None
    part: float | None = None
    message: str = ""


class _Process(NamedTuple):
    child: subprocess.Popen
    said: IO[bytes]

    def last_line(self) -> str:
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else ""


class Exports:
    """Starts exports and knows how far they are; the files are in the runs' folders."""

    def __init__(self) -> None:
        self._processes: dict[Path, _Process] = {}  # by the file that each writes
        self._lock = threading.Lock()  # tabs are threads

    def start(self, folder: RunFolder, format: str) -> None:
        """Begins to write the run's offered model in a format, unless that is being done."""
        out = folder.export_file(format)
        with self._lock:
            if out in self._processes and self._processes[out].child.poll() is None:
                return
            out.unlink(missing_ok=True)
            words = [sys.executable, "-m", "keras_lm", "export", "--format", format]
            said = tempfile.TemporaryFile()
            child = subprocess.Popen(
                [*words, "--run-dir", str(folder.path.resolve()), "--out", str(out.resolve())],
                cwd=PROJECT,
                env=environment_for_children(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            self._processes[out] = _Process(child, said)

    def progress(self, folder: RunFolder, format: str) -> Progress:
        """How far it is; a file that is older than the model does not count."""
        out = folder.export_file(format)
        process = self._processes.get(out)
        if process and process.child.poll() is None:
            stage = STAGE.fullmatch(process.last_line())
            if stage is None:
                return Progress(part=0.0, message="Starting.")
            done, count, message = stage.groups()
            return Progress(part=(int(done) - 1) / int(count), message=message)
        if process and process.child.returncode:
            line = process.last_line()
            return Progress(message=NO_REASON if STAGE.fullmatch(line) or not line else line)
        if not out.is_file():
            return Progress()
        models = (folder.offered_model, folder.model_file)  # either may be newly offered
        is_new = all(out.stat().st_mtime >= model.stat().st_mtime for model in models)
        return Progress(file=out, message=_remark(out)) if is_new else Progress()


def _remark(file: Path) -> str:
    """What the command noted in the zip file that it wrote."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.comment.decode(errors="replace")
    except (OSError, zipfile.BadZipFile):
        return ""
