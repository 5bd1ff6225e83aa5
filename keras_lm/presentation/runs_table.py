"""Tables: all runs, several runs compared, and the result of a race."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from keras_lm.presentation.formatting import name_run, show_value, text_title
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.config import RunConfig
from keras_lm.settings.presets import TITLES, nearest_preset
from keras_lm.storage.events import evenly

CURVE_POINTS = 40  # of a small curve
DRAWN_POINTS = 300  # about, of a curve that lies over others
ALL, STARRED = "All runs", "Starred"  # what the table may be limited to, beside states
COLUMNS = {  # by column: its heading
    "star": "★",
    "name": "Name",
    "run": "Run",
    "state": "State",
    "text": "Text",
    "settings": "Settings",
    "curve": "Curve",
    "best_val_loss": "Best val. loss",
    "last_val_loss": "Last val. loss",
    "bits_per_byte": "Bits per byte",
    "tokens_per_second": "Tokens per second",
    "seconds": "Seconds",
    "memory_mb": "Memory, MB",
    "step": "Step",
    "note": "Note",
}
PERSONAL = ("star", "name", "note")  # columns that are shown once a run has something there
SEARCHED = ("name", "run", "state", "text", "settings", "note")


def run_row(summary: RunSummary, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the table shows of one run, by COLUMNS; None for what is not known.

    Args:
        summary: of the run.
        events: all of its events, or as `read_thinned` gives them.
    """
    metrics = [event for event in events if event["kind"] == "metrics"]
    validated = [event for event in metrics if "val_loss" in event]
    last = metrics[-1] if metrics else {}
    preset = changes = None
    if (config := summary.trained_config) is not None:
        preset, changes = nearest_preset(config)
    differs = [f"{key.partition('.')[2]} {show_value(v)}" for key, v in (changes or {}).items()]
    train_seconds = last.get("train_seconds")
    return {
        "star": "★" if summary.notes.get("starred") else "",
        "name": summary.notes.get("name", ""),
        "run": summary.run_id,
        "state": "damaged" if summary.damage else summary.state,
        "text": text_title(config.data) if config else "?",
        "settings": ", ".join([TITLES[preset], *differs]) if preset else "unreadable",
        "curve": [event["loss"] for event in evenly(metrics, CURVE_POINTS)],
        "best_val_loss": min((event["val_loss"] for event in validated), default=None),
        "last_val_loss": validated[-1]["val_loss"] if validated else None,
        "bits_per_byte": validated[-1].get("val_bits_per_byte") if validated else None,
        "tokens_per_second": round(last["tokens"] / train_seconds) if train_seconds else None,
        "seconds": last.get("seconds"),
        "memory_mb": last.get("memory_mb"),
        "step": summary.status.get("step"),
        "note": summary.notes.get("note", ""),
    }


def filters(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table may be limited to: ALL, STARRED, and the states that there are."""
    return [ALL, STARRED, *sorted({row["state"].capitalize() for row in rows})]


def runs_table(
    rows: Sequence[Mapping[str, Any]], search: str = "", only: str = ALL
) -> pd.DataFrame:
    """The rows that contain every word of `search`, in their order, under COLUMNS' headings.

    Args:
        rows: as `run_row` gives them.
        search: words; in any case of letters.
        only: one of `filters`.
    """
    words = search.lower().split()

    def matches(row: Mapping[str, Any]) -> bool:
        text = " ".join(str(row[name]) for name in SEARCHED).lower()
        fits = only == ALL or (row["star"] if only == STARRED else row["state"] == only.lower())
        return bool(fits) and all(word in text for word in words)

    unused = {name for name in PERSONAL if not any(row[name] for row in rows)}
    columns = [name for name in COLUMNS if name not in unused]
    table = pd.DataFrame([row for row in rows if matches(row)], columns=columns)
    return table.rename(columns=COLUMNS)


def differing_settings(configs: Mapping[str, RunConfig]) -> pd.DataFrame:
    """The settings in which the runs differ, a row each, a column per run.

    Args:
        configs: by the names of their columns.

    Example:
        >>> from keras_lm.settings.presets import PRESETS
        >>> base = PRESETS["original"]
        >>> changed = RunConfig(base.model.changed(dropout=0.3), base.data, base.training)
        >>> differing_settings({"a": base, "b": changed}).to_dict("index")
        {'model.dropout': {'a': '0.1', 'b': '0.3'}}
    """
    values = {
        name: {
            f"{part}.{spec.name}": getattr(settings, spec.name)
            for part, settings in config.parts.items()
            for spec in settings.specs()
        }
        for name, config in configs.items()
    }
    first = next(iter(values.values()), {})
    differ = [key for key in first if len({str(v[key]) for v in values.values()}) > 1]
    columns = {name: [show_value(v[key]) for key in differ] for name, v in values.items()}
    return pd.DataFrame(columns, index=pd.Index(differ, name="setting"))


def overlaid(events: Mapping[str, Sequence[Mapping[str, Any]]], measure: str) -> pd.DataFrame:
    """The curves of several runs in one table: of a long one about DRAWN_POINTS points.

    Args:
        events: of each run, by the name of its curve.
        measure: the field of a metrics event.

    Returns:
        Columns as of `race_table`: entry, step, tokens, seconds and mean, for seeds of one.
    """
    columns = ["entry", "step", "tokens", "seconds", "mean", "low", "high", "seeds"]
    curves = {
        name: [e for e in found if e["kind"] == "metrics" and e.get(measure) is not None]
        for name, found in events.items()
    }
    rows = [
        (name, e["step"], e["tokens"], e["seconds"], e[measure], e[measure], e[measure], 1)
        for name, curve in curves.items()
        for e in evenly(curve, DRAWN_POINTS)
    ]
    return pd.DataFrame(rows, columns=columns)


def last_samples(
    events: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[str | None, dict[str, Mapping[str, Any] | None]]:
    """The last sample of each run, for the same prompt where the runs have one in common.

    Args:
        events: of each run, by its name.

    Returns:
        The prompt, or None without one that all runs with samples have; and each run's last sample
        for it or else for any prompt, or None without one.
    """
    samples = {
        name: [event for event in reversed(found) if event["kind"] == "sample"]
        for name, found in events.items()
    }
    prompts = [{sample["prompt"] for sample in found} for found in samples.values() if found]
    newest_first = next((found for found in samples.values() if found), [])
    common = [s["prompt"] for s in newest_first if all(s["prompt"] in p for p in prompts)]
    prompt = common[0] if common else None
    last = {
        name: next((s for s in found if prompt in (None, s["prompt"])), None)
        for name, found in samples.items()
    }
    return prompt, last


def as_csv(events: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """All metrics of the runs as CSV, with a column that names the run.

    Example:
        >>> as_csv({"mine": [{"kind": "metrics", "step": 10, "loss": 2.5}]})
        b'run,step,loss\\nmine,10,2.5\\n'
    """
    rows = [
        {"run": name} | {key: value for key, value in event.items() if key != "kind"}
        for name, all_events in events.items()
        for event in all_events
        if event["kind"] == "metrics"
    ]
    return pd.DataFrame(rows).to_csv(index=False).encode()


def as_lines(events: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """All events of the runs as JSON lines, each with the name of its run.

    Example:
        >>> as_lines({"mine": [{"kind": "metrics", "step": 10}]})
        '{"run": "mine", "kind": "metrics", "step": 10}\\n'
    """
    return "".join(
        json.dumps({"run": name, **event}) + "\n"
        for name, found in events.items()
        for event in found
    )


def short_names(summaries: Sequence[RunSummary]) -> list[str]:
    """A name of each run for a legend, which has little room; no two alike.

    What all of them have in common is left out in front.
    """
    names = [name_run(summary) for summary in summaries]
    common = os.path.commonprefix(names) if len(names) > 1 else ""
    begin = max(common.rfind(end) + len(end) if end in common else 0 for end in (" · ", ", "))
    names = [name[begin:] for name in names]
    return [
        name if names.count(name) == 1 else f"{name} · {summary.run_id}"
        for name, summary in zip(names, summaries, strict=True)
    ]


def result_table(entries: list[dict]) -> pd.DataFrame:
    """The entries of a result as a table for people; a dash for what is not known."""

    def spread(values: dict, form: str) -> str:
        if values["mean"] is None:
            return "–"
        mean = format(values["mean"], form)
        return mean if values["sd"] is None else f"{mean} ± {values['sd']:{form}}"

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    exact = [spread(entry["task_accuracy"], ".1%") for entry in entries]
    of_task = {"Exact answers": exact} if any(words != "–" for words in exact) else {}
    return pd.DataFrame(
        {
            "Entry": [entry["name"] for entry in entries],
            "Runs": [entry["runs"] for entry in entries],
            **of_task,
            "Bits per byte": [spread(entry["bits_per_byte"], ".3f") for entry in entries],
            "Validation loss": [spread(entry["val_loss"], ".3f") for entry in entries],
            "Seconds": [number(entry["seconds"], ",.0f") for entry in entries],
            "Tokens per second": [number(e["tokens_per_second"], ",.0f") for e in entries],
            "Memory, MB": [number(entry["memory_mb"], ",.0f") for entry in entries],
            "Parameters": [number(entry["parameters"], ",d") for entry in entries],
        }
    )
