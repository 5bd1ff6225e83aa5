"""How runs, texts, numbers and settings are written, and the sizes that parts of pages share."""

import re
import unicodedata

from keras_lm.data.texts import TEXTS
from keras_lm.runs.supervisor import RunSummary
from keras_lm.settings.config import DataConfig, RunConfig
from keras_lm.settings.presets import TITLES, nearest_preset

CHART_HEIGHT = 290  # pixels: a run is seen as a whole on a laptop's 720
OPTIONS_HEIGHT = 32  # pixels, of the row below a chart with what can be chosen of it
ROW_HEIGHT, NUMBERS_HEIGHT = 44, 62  # pixels, of a row of buttons and one of numbers
TABLE_ROW = 35  # pixels, of a table's row
MOST_CHANGES = 4  # named in a title
UNREADABLE = "unreadable settings"
# Signs that turn the direction of whatever follows them.
TURNS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
ISOLATED = "\u2068{}\u2069"  # which turns nothing beside it


def show_value(value: object) -> str:
    """A setting's value for people: 2,000, 0.0035, on, off.

    Example:
        >>> show_value(2_000), show_value(0.0035), show_value(True)
        ('2,000', '0.0035', 'on')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int) else str(value) or "(empty)"


def describe_run(config: RunConfig | None) -> str:
    """A run in a few words: its text, its preset, and what differs from it."""
    if config is None:
        return UNREADABLE
    return f"{text_title(config.data)} · {describe_settings(config)}"


def describe_settings(config: RunConfig) -> str:
    """A run's preset, and what differs from it."""
    preset, changes = nearest_preset(config)
    words = [f"{key.partition('.')[2]} {show_value(value)}" for key, value in changes.items()]
    if len(words) > MOST_CHANGES:
        words[MOST_CHANGES:] = [f"{len(words) - MOST_CHANGES} more"]
    return ", ".join([TITLES[preset], *words])


def name_run(summary: RunSummary) -> str:
    """What a person called the run, on one line; without a name, what it is."""
    return _given_name(summary) or describe_run(summary.trained_config)


def _given_name(summary: RunSummary) -> str:
    name = " ".join(summary.notes.get("name", "").translate(TURNS).split())
    is_turned = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name)
    return ISOLATED.format(name) if is_turned else name


def text_title(data: DataConfig) -> str:
    """What a text is called, without its author."""
    known = TEXTS.get(data.data)
    return known.title.rpartition(", ")[0] if known else data.label


def label_runs(summaries: list[RunSummary]) -> dict[str, str]:
    """Runs in a list: of each id, its name or text, when it started and how it ended.

    No two are alike. The settings of a run without a name come last, for a list may cut them off.
    While a run is active its state is left out, for a list's entry that changes is another one to
    Streamlit.
    """
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for summary in summaries:
        when, suffix = show_stamp(summary.run_id), summary.run_id.rpartition("-")[2]
        title, settings = _given_name(summary), []
        if not title and (config := summary.trained_config) is not None:
            title = text_title(config.data)
            settings = [describe_settings(config)]
        label = f"{'★ ' * summary.notes.get('starred', False)}{title or UNREADABLE} · {when}"
        label += f" · {suffix}" * (label in taken)
        taken.add(label)
        labels[summary.run_id] = " · ".join([label, *_outcome(summary), *settings])
    return labels


def show_stamp(name: str) -> str:
    """When a run or race began, whose name says it; any other name as it is.

    Example:
        >>> show_stamp("20260131-093000-1f2e3d"), show_stamp("mine")
        ('2026-01-31 09:30', 'mine')
    """
    found = re.match(r"(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)\d\d", name)
    return "{}-{}-{} {}:{}".format(*found.groups()) if found else name


def _outcome(summary: RunSummary) -> list[str]:
    """How a run ended, in few words; none while it is active."""
    if summary.damage:
        return ["damaged"]
    if summary.is_active:
        return []
    if summary.failed_to_learn:
        return ["failed to learn"]
    best = summary.status.get("best_loss")
    return [summary.state if best is None else f"{summary.state}, best loss {best:.3f}"]


def plural(count: int, noun: str) -> str:
    """1 block, 2 blocks.

    Example:
        >>> plural(1, "block"), plural(2_000, "step")
        ('1 block', '2,000 steps')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def escape_markdown(text: str) -> str:
    """The text as Streamlit's Markdown shows it to the letter, whatever is in it.

    Example:
        >>> print(escape_markdown("*a*  b"))
        \\*a\\* b
    """
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def show_clock(seconds: float) -> str:
    """What is left, as a clock counts it down.

    Example:
        >>> show_clock(65.2), show_clock(-1.0), show_clock(3_600)
        ('1:05', '0:00', '1:00:00')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def show_best(status: dict) -> str:
    """A sentence about the best model of a run where that is better than its last one, or "".

    Example:
        >>> show_best({"best_step": 600, "best_loss": 1.412, "last_loss": 1.52})
        'The best model is that of step 600 (validation 1.412); the last has 1.520.'
    """
    best, last = status.get("best_loss"), status.get("last_loss")
    if not status.get("best_step") or best is None:
        return ""
    shown = "none" if last is None else f"{last:.3f}"
    return (
        f"The best model is that of step {status['best_step']:,} (validation {best:.3f}); the last "
        f"has {shown}."
    )


def show_seconds(seconds: float) -> str:
    """A duration for people: 42 s, 3 min 05 s, 2 h 10 min.

    Example:
        >>> show_seconds(42), show_seconds(185), show_seconds(7_800)
        ('42 s', '3 min 05 s', '2 h 10 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
