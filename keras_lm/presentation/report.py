"""One HTML file about a run or a race that opens anywhere, without a network.

Drawings are SVG inside the file; nothing from a text, a name or a message becomes markup.
"""

import html
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import vl_convert

from keras_lm.data.texts import TEXTS
from keras_lm.keras_file.initial import file_like
from keras_lm.presentation import charts, curves, race_charts
from keras_lm.presentation.course import Event, describe_course, unit_of
from keras_lm.presentation.diagnosis import diagnose
from keras_lm.presentation.forgetting import FIRST_BITS
from keras_lm.presentation.formatting import name_run, show_seconds, show_value
from keras_lm.presentation.repeating import longer_commands, race_command, train_command
from keras_lm.presentation.runs_table import result_table
from keras_lm.presentation.timeline import (
    DARKEST,
    Point,
    Timeline,
    describe_window,
    read_timeline,
    shade,
    thin,
)
from keras_lm.runs.comparison import pair_in_words
from keras_lm.runs.race import Race, RaceRun
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.config import RunConfig
from keras_lm.settings.data_config import TASK_NAMES
from keras_lm.settings.presets import TITLES, nearest_preset
from keras_lm.settings.training_config import MOST_STEPS
from keras_lm.storage.files import open_plain
from keras_lm.storage.run_folder import FINISHED, RunFolder

WIDTH = 440  # pixels of a drawing, which grows and shrinks with the page
READABLE = {  # also when it shrinks
    "labelFontSize": 13,
    "labelSeparation": 8,
    "titleFontSize": 13,
    "gridColor": "#8884",
}
MOST_SAMPLES = 12
EXCERPT = 300  # characters of a sample in a table
MARK = '<meta name="generator" content="keras_lm">'  # of a file that may be replaced
OWN_TEXT = "The text is a file of the machine that trained it: put its path on yours after --data."
OWN_MODEL = (
    "The model that it went on with is a file of that machine, too: put its path on yours after "
    "--init-from."
)
LONGER = (
    "It was trained longer, which the commands after the first one do. Where it had been stopped "
    "by hand before its end, or was trained for seconds, their steps and learning rates are not "
    "the same."
)
NO_COMMAND = "A value has a comma in it, with which no command can name it."
UNKNOWN = "Not known: an earlier version of keras_lm, which did not write it down, made this."
STYLE = """
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
h1, h2, p, td, th { overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; break-after: avoid; }
h1 { font-size: 1.6rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #8886; }
.wide { overflow-x: auto; font-size: 0.85rem; }
.wide :is(th, td) { padding-right: 0.5rem; }
.wide th, .wide td { overflow-wrap: normal; }
pre, .text { white-space: pre-wrap; overflow-wrap: anywhere; }
pre { max-height: 20rem; padding: 0.8rem; overflow: auto; background: #8881;
  border-radius: 0.5rem; }
.text { font: 0.9rem/1.6 ui-monospace, monospace; }
.text + p { margin: 0.2rem 0; font-size: 0.9rem; }
.shaded span, i { background: rgba(224, 122, 47, var(--shade)); print-color-adjust: exact; }
i { display: inline-block; width: 1rem; height: 0.8rem; outline: 1px solid #8886; }
figure { margin: 1rem 0; }
svg { display: block; width: 100%; height: auto; }
summary { cursor: pointer; }
tr, figure { break-inside: avoid; }
@media (max-width: 40rem) {
  .points :is(tr, th, td) { display: block; border: 0; }
  .points thead { display: none; }
}
@media print {
  body { max-width: none; margin: 0; }
  pre { max-height: none; break-inside: avoid; }
  p:has(+ pre) { break-after: avoid; }
  .wide { overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
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
    table = charts.loss_table(frame, references, charts.longer_marks(events))
    timeline = read_timeline(events)
    parts = [
        f"<p>{_text(_course(summary, frame))}</p>",
        *_words(summary, events),
        "<h2>Loss</h2>",
        _drawing(curves.curves_spec(charts.loss_looks(), charts.LOSS_TITLE), table),
        *_forgetting(frame, status),
        "<h2>From noise to language</h2>",
        *_points(timeline, unit_of(summary.config)),
        *_all_samples(timeline.points),
        "<h2>Settings</h2>",
        *_settings(summary.trained_config),
        *_repeat_run(folder, summary.config, events),
        *_circumstances([summary]),
    ]
    return _document(name_run(summary), parts)


def race_report(race: Race) -> str:
    """The report of a race: its sentence, chart, table, intervals and settings.

    Raises:
        ValueError: when the race cannot be read.
    """
    config, runs, result = race.read(), race.runs(), race.result()
    begun = [(run, race.supervisor.folder(run.run_id)) for run in runs if run.summary]
    missing = "".join(f"<li>{_text(run.reason)}</li>" for run in runs if run.reason)
    measure, options = race_charts.VALIDATION, curves.ChartOptions(smoothing=0)
    points = race_charts.race_table(begun, race_charts.MEASURES[measure])
    table = race_charts.compared_table(points, options)
    looks = race_charts.compared_looks(config.names)
    drawing = curves.curves_spec(looks, race_charts.title(measure, options))
    parts = [
        f"<p><strong>{_text(result['summary'])}</strong></p>",
        _drawing(drawing, table),
        _table(result_table(result["entries"])),
        f"<p>Not in the table:</p><ul>{missing}</ul>" if missing else "",
        "<h2>Pairs</h2>",
        f"<ul>{''.join(f'<li>{_text(pair_in_words(pair))}</li>' for pair in result['pairs'])}</ul>",
        "<h2>What they write</h2>",
        *_last_samples(begun),
        "<h2>Settings</h2>",
        *_settings(config.base),
        *_repeat(race_command(config), config.base),
        *_circumstances([run.summary for run, _ in begun if run.summary]),
    ]
    values = ", ".join(map(str, config.values))
    return _document(f"Race: {config.setting}: {values}", parts)


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
        f'<main>\n<h1 dir="auto">{_text(title)}</h1>\n{body}\n</main>\n</html>\n'
    )


def _drawing(drawing: dict, table: pd.DataFrame) -> str:
    """A Vega-Lite drawing with its table as SVG, and in words for who does not see it."""
    if table.empty:
        return "<p>No point of a curve.</p>"
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    config = drawing["config"] | {
        part: drawing["config"][part] | READABLE for part in ("axis", "legend")
    }
    whole = drawing | {"width": WIDTH, "config": config}
    whole["datasets"] = {curves.TABLE: rows, curves.HOVER: []}
    whole["background"] = "transparent"  # letters have the page's colour, also on a dark one
    svg = vl_convert.vegalite_to_svg(whole)
    return f'<figure role="img" aria-label="{_text(curves.describe(table))}">{svg}</figure>'


def _table(frame: pd.DataFrame) -> str:
    table = frame.to_html(index=False, border=0, na_rep="–")  # which escapes
    return f'<div class="wide" tabindex="0">{table}</div>'


def _course(summary: RunSummary, frame: pd.DataFrame) -> str:
    """How far the run got, how long it took and how well it did."""
    step, steps = summary.status.get("step", 0), summary.status.get("steps", 0)
    of_all = f" of {steps:,}" if steps < MOST_STEPS else ""  # the pace was not known yet
    parts = [f"{summary.state.capitalize()} at step {step:,}{of_all}"]
    if "val_loss" in frame and frame["val_loss"].notna().any():
        best = frame.loc[frame["val_loss"].idxmin()]
        parts.append(f"best validation loss {best['val_loss']:.3f} at step {best['step']:,.0f}")
    if "val_bits_per_byte" in frame and frame["val_bits_per_byte"].notna().any():
        parts.append(f"{frame['val_bits_per_byte'].dropna().iloc[-1]:.3f} bits per byte at the end")
    if "task_accuracy" in frame and frame["task_accuracy"].notna().any():
        exact = frame["task_accuracy"].dropna().iloc[-1]
        parts.append(f"{exact:.1%} of the held-out answers right")
    if "seconds" in frame and len(frame):
        parts.append(f"took {show_seconds(frame['seconds'].iloc[-1])}")
    return f"{', '.join(parts)}."


def _words(summary: RunSummary, events: Sequence[Event]) -> list[str]:
    """Why the run ended early, how it went, and what was wrong with it."""
    course = describe_course(summary.config, summary.status, events)
    reason = "" if summary.state == FINISHED else summary.status.get("message", "")
    findings = [finding.text for finding in diagnose(summary.config, summary.status, events)]
    return [f"<p>{_text(line)}</p>" for line in (reason, course, *findings) if line]


def _forgetting(frame: pd.DataFrame, status: Mapping[str, Any]) -> list[str]:
    """The validation of both texts, of a run that taught a model another one."""
    if FIRST_BITS not in frame:
        return []
    table = charts.forgetting_table(frame, status.get("first_bits"))
    drawing = curves.curves_spec(charts.FORGETTING_LOOKS, charts.FORGETTING_TITLE)
    return ["<h2>What it forgets</h2>", _drawing(drawing, table)]


def _points(timeline: Timeline, unit: str) -> list[str]:
    """The first sample, one in the middle and the last, each with the shades of its model."""
    if not timeline.points:
        return ["<p>There is no sample.</p>"]
    rows = [
        f"<tr><th scope=row>After step {point.step:,}</th><td>{_excerpt(point)}</td>"
        + (f"<td>{_shaded(timeline.tokens, point, unit)}</td>" if timeline.tokens else "")
        + "</tr>"
        for point in thin(timeline.points, 3)
    ]
    ramp = "".join(f'<i style="--shade:{DARKEST * part / 3:.2f}"></i>' for part in range(4))
    head, words = "<th></th><th scope=col>It wrote</th>", "The same beginning, continued."
    if timeline.tokens:
        head += "<th scope=col>Validation text</th>"
        words += (
            " Beside it a text that it never trains on: the more coloured a token, the less likely "
            f"the model found it. Sure {ramp} surprised."
        )
    table = f'<table class="points"><thead><tr>{head}</tr></thead>'
    table += f"<tbody>{''.join(rows)}</tbody></table>"
    return [f"<p>{words}</p>", table]


def _excerpt(point: Point) -> str:
    """A sample's beginning, the prompt in bold letters."""
    text = point.text if len(point.text) <= EXCERPT else point.text[:EXCERPT] + "…"
    return f'<div class="text" dir="auto"><b>{_text(point.prompt[:EXCERPT])}</b>{_text(text)}</div>'


def _shaded(tokens: Sequence[str], point: Point, unit: str) -> str:
    """The held-out text in the shades of a point, and these in words."""
    if not point.of_next:
        return ""
    shades = [0.0, *map(shade, point.of_next)]
    spans = "".join(
        f'<span style="--shade:{opacity}">{_text(token)}</span>'
        for token, opacity in zip(tokens, shades, strict=True)
    )
    words = _text(describe_window(tokens, point.of_next, unit))
    return f'<div class="text shaded" dir="auto">{spans}</div><p>{words}</p>'


def _all_samples(points: Sequence[Point]) -> list[str]:
    """The samples to the last letter."""
    whole = [
        f"<p>After step {point.step:,}:</p>"
        f'<pre dir="auto"><b>{_text(point.prompt)}</b>{_text(point.text)}</pre>'
        for point in thin(points, MOST_SAMPLES)
    ]
    return [f"<details><summary>Whole samples</summary>{''.join(whole)}</details>"] if whole else []


def _last_samples(runs: Sequence[tuple[RaceRun, RunFolder]]) -> list[str]:
    """The last sample of each entry's first run that has one."""
    found: dict[str, Point] = {}
    for run, folder in runs:
        if run.entry not in found and (points := read_timeline(folder.read_events()[0]).points):
            found[run.entry] = points[-1]
    rows = [
        f"<tr><th scope=row>{_text(entry)}, after step {point.step:,}</th>"
        f"<td>{_excerpt(point)}</td></tr>"
        for entry, point in found.items()
    ]
    return [f'<table class="points">{"".join(rows)}</table>'] if rows else ["<p>No sample.</p>"]


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


def _repeat_run(folder: RunFolder, config: RunConfig | None, events: Sequence[Event]) -> list[str]:
    """The commands that do the same, one for each time that it was trained longer among them."""
    if config is None:
        return []
    if init_from := config.data.init_from:  # which may have changed since, unlike the run's copy
        data = config.data.changed(init_from=file_like(folder, init_from))
        config = replace(config, data=data)
    longer = longer_commands(events)
    note = [f"<p>{LONGER}</p>"] if longer else []
    return [*_repeat("\n".join([train_command(config), *longer]), config), *note]


def _repeat(command: str, config: RunConfig) -> list[str]:
    """The command that does the same, if there is one."""
    if not command:
        return ["<h2>Repeat it</h2>", f"<p>{NO_COMMAND}</p>"]
    is_known = {*config.data.data.split("\n")} <= {*TEXTS, *TASK_NAMES}
    note = [] if is_known else [f"<p>{OWN_TEXT}</p>"]
    if config.data.init_from:
        note.append(f"<p>{OWN_MODEL}</p>")
    return ["<h2>Repeat it</h2>", f"<pre>{_text(command)}</pre>", *note]


def _circumstances(runs: Sequence[RunSummary]) -> list[str]:
    """With what and where the runs were trained, as they wrote it down; and when this was."""
    keys = ("versions", "machine", "precision")
    found = [", ".join(run.status[key] for key in keys if run.status.get(key)) for run in runs]
    known = dict.fromkeys(
        text for text, run in zip(found, runs, strict=True) if "machine" in run.status
    )
    sentences = [f"<p>{_text(text)}.</p>" for text in known] or [f"<p>{UNKNOWN}</p>"]
    when = time.strftime("%Y-%m-%d %H:%M")
    return ["<h2>Versions and machine</h2>", *sentences, f"<p>Report of {when}.</p>"]
