"""One HTML file about a run or a race that opens anywhere, without a network.

Drawings are SVG inside the file; nothing from a text, a name or a message becomes markup.
"""

import html
import importlib.metadata
import math
import platform
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert

from keras_lm.presentation import charts, race_charts
from keras_lm.presentation.formatting import describe_run, show_seconds, show_value
from keras_lm.presentation.runs_table import result_table
from keras_lm.runs.race import Race
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.config import RunConfig
from keras_lm.settings.presets import TITLES, nearest_preset
from keras_lm.storage.files import open_plain
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system import machine

WIDTH = 680  # pixels, of a drawing
MOST_SAMPLES = 12
MARK = '<meta name="generator" content="keras_lm">'  # of a file that may be replaced
LIBRARIES = ("keras_lm", "tensorflow", "keras", "numpy", "streamlit")
STYLE = """
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1, h2 { line-height: 1.2; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; border-bottom: 1px solid #8886; }
pre { padding: 0.8rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere;
  background: #8881; border-radius: 0.5rem; }
svg { max-width: 100%; height: auto; background: #fff; border-radius: 0.5rem; }
"""


def run_report(folder: RunFolder, summary: RunSummary) -> str:
    """The report of one run.

    Args:
        folder: of the run.
        summary: of the same run.

    Returns:
        A whole HTML document.
    """
    events = folder.read_events()[0]
    frame = charts.metrics_frame(events)
    status = summary.status
    references = {}
    if vocab_size := status.get("vocab_size"):
        references[charts.AT_RANDOM] = math.log(vocab_size)
    if entropy := status.get("unigram_entropy"):
        references[charts.BY_FREQUENCY] = entropy
    title = describe_run(summary.config)
    parts = [
        f"<p>{_text(_course(summary, frame))}</p>",
        "<h2>Loss</h2>",
        _drawing(charts.loss_spec(), charts.loss_table(frame, references)),
        "<h2>Samples</h2>",
        *_samples(events),
        "<h2>Settings</h2>",
        *_settings(summary.config),
        *_repeat(train_command(summary.config) if summary.config else ""),
        *_circumstances(),
    ]
    return _document(title, parts)


def race_report(race: Race) -> str:
    """The report of a race: its sentence, chart, table, intervals and settings.

    Raises:
        ValueError: when the race cannot be read.
    """
    config, result = race.read(), race.result()
    runs = [(run, race.supervisor.folder(run.run_id)) for run in race.runs() if run.summary]
    measure = "Validation"
    table = race_charts.race_table(runs, race_charts.MEASURES[measure])
    values = ",".join(map(str, config.values))
    command = f"keras-lm race --vary {config.setting}={values} --seeds "
    command += ",".join(map(str, config.seeds))
    command += f" --race-dir race {' '.join(_flags(config.base))}"
    parts = [
        f"<p><strong>{_text(result['summary'])}</strong></p>",
        _drawing(race_charts.race_spec(tuple(config.names), "Steps", measure), table),
        _table(result_table(result["entries"])),
        "<h2>Pairs</h2>",
        _table(pd.DataFrame(result["pairs"]).round(4)),
        "<h2>Settings</h2>",
        *_settings(config.base),
        *_repeat(command),
        *_circumstances(),
    ]
    return _document(f"Race: {config.setting}: {values}", parts)


def train_command(config: RunConfig) -> str:
    """The command that trains the same run again."""
    return f"keras-lm train --run-dir run {' '.join(_flags(config))}"


def _flags(config: RunConfig) -> list[str]:
    """The preset and the flags that differ from it, with the text."""
    preset, changes = nearest_preset(config)
    flags = ["--preset", preset, "--data", shlex.join(config.data.data.split("\n"))]
    for key, value in changes.items():
        name = key.partition(".")[2].replace("_", "-")
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        else:
            flags += [f"--{name}", shlex.quote(str(value))]
    if config.data.encoding:
        flags += ["--encoding", shlex.quote(config.data.encoding)]
    return flags


def is_report(path: Path) -> bool:
    """Whether a file is a report that was written here."""
    try:
        with open_plain(path) as file:
            return MARK.encode() in file.read(1_000)
    except OSError:
        return False


def _text(text: Any) -> str:
    """Any text as HTML shows it to the letter."""
    return html.escape(str(text))


def _document(title: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'{MARK}\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{_text(title)} · keras_lm</title>\n<style>{STYLE}</style>\n"
        f"<h1>{_text(title)}</h1>\n{body}\n</html>\n"
    )


def _drawing(drawing: dict, table: pd.DataFrame) -> str:
    """A Vega-Lite drawing with its table as SVG."""
    if table.empty:
        return "<p>No point of a curve.</p>"
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    whole = drawing | {"datasets": {charts.TABLE: rows}, "width": WIDTH, "background": "white"}
    return vl_convert.vegalite_to_svg(whole)


def _table(frame: pd.DataFrame) -> str:
    return frame.to_html(index=False, border=0, na_rep="–")  # which escapes


def _course(summary: RunSummary, frame: pd.DataFrame) -> str:
    """How far the run got, how long it took and how well it did."""
    step, steps = summary.status.get("step", 0), summary.status.get("steps", 0)
    parts = [f"{summary.state.capitalize()} at step {step:,} of {steps:,}"]
    if "val_loss" in frame and frame["val_loss"].notna().any():
        best = frame.loc[frame["val_loss"].idxmin()]
        parts.append(f"best validation loss {best['val_loss']:.3f} at step {best['step']:,.0f}")
    if "val_bits_per_byte" in frame and frame["val_bits_per_byte"].notna().any():
        parts.append(f"{frame['val_bits_per_byte'].dropna().iloc[-1]:.3f} bits per byte at the end")
    if "seconds" in frame and len(frame):
        parts.append(f"took {show_seconds(frame['seconds'].iloc[-1])}")
    return f"{', '.join(parts)}."


def _samples(events: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [event for event in events if event["kind"] == "sample"]
    every = max(1, -(-len(found) // MOST_SAMPLES))
    shown = found[::-1][::every][::-1]  # the last one among them
    if not shown:
        return ["<p>None.</p>"]
    return [
        f"<p>After step {sample['step']:,}:</p>"
        f"<pre><b>{_text(sample['prompt'])}</b>{_text(sample['text'])}</pre>"
        for sample in shown
    ]


def _settings(config: RunConfig | None) -> list[str]:
    if config is None:
        return ["<p>They cannot be read.</p>"]
    preset, changes = nearest_preset(config)
    rows = [
        f"<tr><th scope=row>{part}.{name}</th><td>{_text(show_value(value))}</td></tr>"
        for part, values in config.parts.items()
        for name, value in values.to_dict().items()
    ]
    differs = ", ".join(f"{key} {show_value(value)}" for key, value in changes.items())
    sentence = f"{TITLES[preset]}{', but: ' + differs if differs else ', as it is'}."
    return [
        f"<p>{_text(sentence)}</p>",
        f"<details><summary>All settings</summary><table>{''.join(rows)}</table></details>",
    ]


def _repeat(command: str) -> list[str]:
    return ["<h2>Repeat it</h2>", f"<pre>{_text(command)}</pre>"] if command else []


def _circumstances() -> list[str]:
    """Versions and machine of the report's making."""
    versions = []
    for library in LIBRARIES:
        try:
            versions.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue  # run from a clone
    cores = machine.num_cores()
    memory = machine.total_memory() / 2**30
    sentence = (
        f"Written {time.strftime('%Y-%m-%d %H:%M')} on {platform.platform()}, {cores} cores, "
        f"{memory:.1f} GB of memory, Python {platform.python_version()}, {', '.join(versions)}."
    )
    return ["<h2>Versions and machine</h2>", f"<p>{_text(sentence)}</p>"]
