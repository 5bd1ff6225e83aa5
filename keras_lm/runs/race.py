"""A race: runs that differ in one setting, with the same seeds and the same budget.

`race.json` in the race's folder is the only truth: what varies, the seeds, and the run of each
entry and seed, written before that run starts. So a race goes on after a kill, a restart or a
closed page: `go_on` starts what is missing. `result.json` follows from the events; the run
that ends last writes it.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_lm.runs.comparison import compare_all, mean_and_sd, summarize
from keras_lm.runs.race_config import RACE_FILE, RaceConfig
from keras_lm.runs.supervisor import RunSummary, Supervisor
from keras_lm.settings.checks import ConfigError
from keras_lm.storage import run_folder
from keras_lm.storage.files import read_json, write_atomically
from keras_lm.storage.run_folder import RunFolder
from keras_lm.storage.run_names import new_run_id

RESULT_FILE = "result.json"
RACES = "races"  # the folder beside the page's runs; a race of the command line has its runs in it
LONGEST_REASON = 200  # characters
RESUMABLE = (run_folder.INTERRUPTED, run_folder.PAUSED, run_folder.STOPPED)


class RaceRun(NamedTuple):
    """The run of one entry and seed; `summary` is None before it starts."""

    entry: str
    seed: int
    run_id: str
    summary: RunSummary | None

    @property
    def state(self) -> str:
        """One of the run's states; "" before it starts."""
        return self.summary.state if self.summary else ""

    @property
    def failure(self) -> str:
        """Why the run is not in the table; "" while it may still come by itself."""
        if self.summary is None or self.state not in (run_folder.FAILED, *RESUMABLE):
            return ""
        return f"seed {self.seed}: {self.summary.status.get('message') or self.state}"

    @property
    def reason(self) -> str:
        """The first sentence of `failure`, cut, after the entry's name; "" when there is none."""
        first, end, _ = self.failure.partition(". ")
        return f"{self.entry}, {first[:LONGEST_REASON]}{end.strip()}" if first else ""


def count_in_words(runs: Sequence[RaceRun]) -> str:
    """How many runs of a race have finished, and how many ended in another way.

    Example:
        >>> ended = RunSummary("20260131-093000-1f2e3d", run_folder.FAILED, None, {})
        >>> count_in_words([RaceRun("norm=rmsnorm", 1, "", None), RaceRun("b", 1, "", ended)])
        '0 of 2 runs finished, 1 failed'
    """
    states = [run.state for run in runs]
    others = [run_folder.FAILED, *RESUMABLE]
    counts = [f"{states.count(state)} {state}" for state in others if state in states]
    finished = f"{states.count(run_folder.FINISHED)} of {len(runs)} runs finished"
    return ", ".join([finished, *counts])


def progress_in_words(runs: Sequence[RaceRun]) -> str:
    """The counts of a race, and how far the run is that trains."""
    words = count_in_words(runs)
    for run in runs:
        if run.summary and run.state in (run_folder.PREPARING, run_folder.TRAINING):
            step = run.summary.status.get("step", 0)
            words += f"; {run.entry}, seed {run.seed}: {f'step {step:,}' if step else run.state}"
    return words


class Race:
    """A race on the disk.

    Args:
        path: its folder.
        supervisor: of the folder that its runs are in.
    """

    def __init__(self, path: Path, supervisor: Supervisor):
        self.path, self.supervisor = path, supervisor

    @property
    def exists(self) -> bool:
        """Whether the folder holds a race."""
        return (self.path / RACE_FILE).is_file()

    @property
    def is_over(self) -> bool:
        """Whether every run has started and none is active any more."""
        return all(run.state not in ("", *run_folder.ACTIVE_STATES) for run in self.runs())

    def create(self, config: RaceConfig) -> None:
        """Writes a new race, or one with other seeds; the runs it has stay its own.

        Raises ConfigError, and writes nothing, when a run needs a package that is not installed,
        or a new race compares nothing.
        """
        if not self.exists:
            config.check_new()
        for value in config.values:
            config.config_of(value, config.seeds[0]).training.check_installed()
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(config, self._ids() if self.exists else {})

    def read(self) -> RaceConfig:
        """What it compares; ValueError with one sentence when that cannot be read."""
        return RaceConfig.from_dict(read_json(self.path / RACE_FILE))

    def runs(self) -> list[RaceRun]:
        """Every entry with every seed, seed by seed, so that verdicts come early."""
        config, ids = self.read(), self._ids()
        found = []
        for seed in config.seeds:
            for name in config.names:
                run_id = ids.get((name, seed), "")
                summary = self.supervisor.summary(run_id) if run_id else None
                found.append(RaceRun(name, seed, run_id, summary))
        return found

    def go_on(self) -> None:
        """Starts every run that is missing, and resumes those that were stopped or interrupted."""
        config, runs = self.read(), self._ids()
        for seed in config.seeds:
            for value in config.values:
                key = (config.name(value), seed)
                if key not in runs:
                    runs[key] = new_run_id()
                    self._write(config, runs)  # first, so that a kill leaves no run unknown
                if not self.supervisor.folder(runs[key]).path.exists():
                    run, owner = config.config_of(value, seed), f"race {self.path.name}"
                    self.supervisor.start(run, runs[key], owner)
                    continue
                summary = self.supervisor.summary(runs[key])
                if summary is not None and summary.state in RESUMABLE:
                    self.supervisor.resume(runs[key])

    def stop(self) -> None:
        """Asks every run that is active to end; what they have learned is kept."""
        for run in self.runs():
            if run.state in run_folder.ACTIVE_STATES:
                self.supervisor.request(run.run_id, "stop")

    def result(self) -> dict[str, Any]:
        """What the finished runs support so far, as `result.json` has it."""
        config, runs = self.read(), self.runs()
        finished = {
            (run.entry, run.seed): measure(self.supervisor.folder(run.run_id), run.summary)
            for run in runs
            if run.summary is not None and run.state == run_folder.FINISHED
        }
        scores: dict[str, dict[int, float]] = {name: {} for name in config.names}
        for (name, seed), values in finished.items():
            if (score := values["bits_per_byte"]) is not None:
                scores[name][seed] = score
        pairs = compare_all(scores)
        return {
            "entries": [
                _entry(name, [values for (entry, _), values in finished.items() if entry == name])
                | {"failed": [run.failure for run in runs if run.entry == name and run.failure]}
                for name in config.names
            ],
            "pairs": [dataclasses.asdict(pair) for pair in pairs],
            "summary": summarize(scores, pairs),
        }

    def write_result(self) -> dict[str, Any]:
        """Writes `result.json`; returns what it holds."""
        result = self.result()
        write_atomically(self.path / RESULT_FILE, json.dumps(result, indent=1).encode())
        return result

    def run_ids(self) -> list[str]:
        """The ids of all runs that it has so far."""
        return [*self._ids().values()]

    def _ids(self) -> dict[tuple[str, int], str]:
        """The id of each entry's and seed's run."""
        data = read_json(self.path / RACE_FILE)
        rows = data.get("runs", []) if isinstance(data, dict) else []
        try:
            return {(row["entry"], row["seed"]): Path(row["folder"]).name for row in rows}
        except (KeyError, TypeError):
            raise ConfigError(f"{RACE_FILE} must name each run's entry, seed and folder.") from None

    def _write(self, config: RaceConfig, runs: Mapping[tuple[str, int], str]) -> None:
        rows = [
            {
                "entry": name,
                "seed": seed,
                "folder": os.path.relpath(self.supervisor.root / run_id, self.path),
            }
            for (name, seed), run_id in runs.items()
        ]
        content = json.dumps(config.to_dict() | {"runs": rows}, indent=1)
        write_atomically(self.path / RACE_FILE, content.encode())


def finish_races(folder: RunFolder) -> None:
    """Writes the result of each race that the run was the last of, whether anybody looks or not."""
    path = folder.path.resolve()
    for place in (path.parent, *(path.parent / RACES).glob("*")):
        race = Race(place, Supervisor(path.parent))
        with contextlib.suppress(OSError, ValueError):  # a damaged race says so when it is opened
            if race.exists and path.name in race.run_ids() and race.is_over:
                race.write_result()


def measure(folder: RunFolder, summary: RunSummary) -> dict[str, float | None]:
    """The numbers of a finished run that a race compares; None for what it did not measure."""
    events = [event for event in folder.read_events()[0] if event["kind"] == "metrics"]
    validated = next((event for event in reversed(events) if "val_loss" in event), {})
    last = events[-1] if events else {}
    seconds = last.get("train_seconds")
    return {
        "val_loss": validated.get("val_loss"),
        "bits_per_byte": validated.get("val_bits_per_byte"),
        "task_accuracy": validated.get("task_accuracy"),
        "seconds": last.get("seconds"),
        "tokens_per_second": last["tokens"] / seconds if seconds else None,
        "memory_mb": max((e["memory_mb"] for e in events if "memory_mb" in e), default=None),
        "parameters": summary.status.get("parameters"),
    }


def _entry(name: str, runs: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """An entry's row of the table: means over its finished runs."""
    spreads = ("val_loss", "bits_per_byte", "task_accuracy")
    columns = {
        key: [value for run in runs if (value := run[key]) is not None]
        for key in (*spreads, "seconds", "tokens_per_second", "memory_mb")
    }
    row: dict[str, Any] = {"name": name, "runs": len(runs)}
    row |= {key: mean_and_sd(columns.pop(key)) for key in spreads}
    row |= {key: mean_and_sd(values)["mean"] for key, values in columns.items()}
    return row | {"parameters": runs[0]["parameters"] if runs else None}
