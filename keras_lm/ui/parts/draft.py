"""The settings of a run to be: a preset, what differs from it, and the text.

The tab's session keeps them whichever widgets are drawn, and the address shows them, so that a
reload or a link finds them again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import streamlit as st

from keras_lm.data.large.streams import is_large
from keras_lm.data.texts import TEXTS, load_text
from keras_lm.keras_file.initial import FREE, check_shape
from keras_lm.settings.checks import ConfigError, check_value, limits_of
from keras_lm.settings.config import DataConfig, RunConfig
from keras_lm.settings.data_config import TASK_NAMES
from keras_lm.settings.presets import PRESETS, nearest_preset, settings_of
from keras_lm.settings.training_config import MULTI_WORKER, NO_BUDGET
from keras_lm.storage.run_folder import RunFolder
from keras_lm.storage.run_names import is_run_id
from keras_lm.ui.parts.fields import PARTS, all_specs, explain, without_advice
from keras_lm.ui.services import supervisor

QUICK_START = "quick-start"
STEPS, SECONDS = "training.steps", "training.max_seconds"
LORA = "training.lora_rank"  # which only a run that goes on with a model may have
UPLOAD, PASTE = "upload", "paste"
PRESET, TEXT, KEPT, TITLE = "preset", "data.data", "own_text", "own_title"  # in the address
INITIAL = "init_from"  # there, too: a run's id
TITLE_LENGTH = 200  # characters
TOO_LARGE = (
    "The run's text has more than {mb} MB, which the form does not take. For a run like that one "
    "type python -m keras_lm train --like RUN --run-dir NEW, where RUN is its folder."
)
NO_MODEL = (
    "The model that the run went on with is not one of this page's runs: this form begins with "
    "fresh weights."
)


@dataclass(frozen=True)
class OwnText:
    """A person's text: the name it is kept under among the uploads, and its title."""

    stem: str
    title: str


@dataclass(frozen=True)
class Draft:
    """Settings that a run can be made of.

    Attributes:
        preset: a name in PRESETS.
        changes: "part.field" of each setting that differs from the preset, and its value.
        text: a text's name in TEXTS, or UPLOAD, or PASTE.
        own: the person's texts, by UPLOAD and PASTE.
        initial: the id of the run whose model it goes on with; "": fresh weights.
    """

    preset: str = QUICK_START
    changes: Mapping[str, Any] = field(default_factory=dict)
    text: str = PRESETS[QUICK_START].data.data
    own: dict[str, OwnText] = field(default_factory=dict)
    initial: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """Every setting's value, by "part.field"."""
        return {**settings_of(PRESETS[self.preset]), **self.changes}

    def changed(self, changes: Mapping[str, Any]) -> "Draft":
        """With other values; one that is the preset's is no change, and steps replace a budget."""
        preset = settings_of(PRESETS[self.preset])
        if STEPS in changes:
            changes = {f"training.{name}": none for name, none in NO_BUDGET.items()} | {**changes}
        values = {**self.values, **changes}
        if any(values[f"training.{name}"] for name in NO_BUDGET):
            values[STEPS] = preset[STEPS]
        return replace(self, changes={k: v for k, v in values.items() if v != preset[k]})

    def without_initial(self) -> "Draft":
        """The same with fresh weights."""
        return replace(self, initial="").changed({LORA: 0})

    def config(self, data: str, title: str) -> RunConfig:
        """The run's config; ConfigError when the settings do not fit together."""
        values = {part: {} for part in PARTS}
        for key, value in self.changes.items():
            part, _, name = key.partition(".")
            values[part][name] = value
        made, init_from = _model_of(self.initial) if self.initial else (None, "")
        values["data"] |= {"data": data, "title": title, "init_from": init_from}
        preset = PRESETS[self.preset]
        config = RunConfig(**{p: getattr(preset, p).changed(**v) for p, v in values.items()})
        if made:
            _check_goes_on(config, made)
        return config

    def address(self) -> dict[str, str]:
        """What the address has to say: only what is not as a new draft has it."""
        plain = Draft()
        words = {key: _write(value) for key, value in self.changes.items()}
        if self.preset != plain.preset:
            words[PRESET] = self.preset
        if self.text != PRESETS[self.preset].data.data:
            words[TEXT] = self.text
        if own := self.own.get(self.text):
            words |= {KEPT: own.stem, TITLE: own.title}
        if self.initial:
            words[INITIAL] = self.initial
        return words


def _model_of(run_id: str) -> tuple[RunConfig, str]:
    """A run's config and its model's file, to go on with; ConfigError when there are none."""
    summary, folder = supervisor().summary(run_id), supervisor().folder(run_id)
    if summary is None:
        raise ConfigError("The model to go on with is gone: begin with fresh weights.")
    if summary.config is None or not folder.has_model:
        problem = summary.damage or f"there is no file {folder.model_file}."
        raise ConfigError(
            f"The model to go on with cannot be used: {problem} Begin with fresh weights."
        )
    return summary.config, str(folder.offered_model)


def _check_goes_on(config: RunConfig, made: RunConfig) -> None:
    """ConfigError unless the run can go on with the model that `made` describes."""
    check_shape(made.model, config.model)
    if config.data.tokenizer != made.data.tokenizer:
        expected, got = made.data.tokenizer, config.data.tokenizer
        raise ConfigError(f"must be {expected}, the model's own, but got {got}.", "tokenizer")


def read_address(address: Mapping[str, str]) -> tuple[Draft, list[ConfigError]]:
    """The draft that an address describes, and an error for each value in it that is left out."""
    problems: list[ConfigError] = []
    preset = address.get(PRESET, QUICK_START).strip().lower().replace(" ", "-")
    if preset not in PRESETS:
        problem = f"preset must be one of {', '.join(PRESETS)}, but got {preset!r:.40}."
        problems.append(ConfigError(problem))
        preset = QUICK_START
    changes = {}
    for key in settings_of(PRESETS[preset]).keys() & address.keys():
        try:
            changes[key] = _read(key, address[key])
        except ConfigError as error:
            problems.append(error)
    draft = Draft(preset).changed(changes)
    text = address.get(TEXT, PRESETS[preset].data.data)
    if text in (UPLOAD, PASTE):
        own = OwnText(address.get(KEPT, ""), address.get(TITLE, "")[:TITLE_LENGTH])
        draft = replace(draft, text=text, own={text: own} if kept_file(own) else {})
    elif text in TEXTS or text in TASK_NAMES:
        draft = replace(draft, text=text)
    else:
        problems.append(ConfigError(f"There is no text {text!r:.40}."))
    initial = address.get(INITIAL, "")
    if is_run_id(initial):
        return replace(draft, initial=initial), problems
    if initial:
        problems.append(ConfigError(f"There is no run {initial!r:.40}."))
    return draft.without_initial(), problems


def _read(key: str, word: str) -> Any:
    """The value that `word` stands for; ConfigError when it is none that the setting can have."""
    spec, value = all_specs()[key], word
    kind: Any = spec.type
    try:
        value = {"true": True, "false": False}[word.lower()] if kind is bool else kind(word)
    except (ValueError, KeyError):
        pass  # the check says what is expected
    return check_value(key, value, kind, **limits_of(spec))


def _write(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def kept_file(own: OwnText | None) -> Path | None:
    """The file of a person's text; None when there is none."""
    return supervisor().kept_upload(own.stem, ".txt") if own else None


def draft() -> Draft:
    """This tab's draft; at first the one in the address."""
    if "draft" not in st.session_state:
        st.session_state["draft"], problems = read_address(st.query_params)
        words = [f"In the address: {explain(problem)} It is left out." for problem in problems]
        st.session_state["draft.problems"] = words
    return st.session_state["draft"]


def keep(changed: Draft, problem: str = "") -> None:
    """Puts another draft into the session and the address.

    Args:
        changed: the draft.
        problem: a sentence about what it lacks, shown in the form until it changes again.
    """
    st.session_state["draft"] = changed
    st.session_state["draft.problems"] = [problem] if problem else []
    show_in_address()


def show_in_address() -> None:
    """Makes the address agree with the draft, whatever was in it; what is not a setting stays."""
    words, ours = draft().address(), {*all_specs(), PRESET, KEPT, TITLE, INITIAL}
    rest = {key: value for key, value in st.query_params.items() if key not in ours}
    if rest | words != st.query_params.to_dict():
        st.query_params.from_dict(rest | words)


def draft_of(config: RunConfig) -> tuple[Draft, str]:
    """The draft that gives a run with these settings, its text kept where it is not a known one.

    A text that cannot be read any more is left out, and the form asks for it; a sentence says what
    is left out and why, else it is empty. ConfigError when the disk refuses.
    """
    if config.training.strategy == MULTI_WORKER:  # the page starts one process
        config = replace(config, training=config.training.changed(strategy="none"))
    preset, changes = nearest_preset(config)
    changes = dict(changes)
    data, initial, no_model = config.data.data, "", ""
    made = Path(config.data.init_from)
    is_here = made.parent.parent == supervisor().root.absolute()
    if is_here and made.name != RunFolder(made.parent).initial_model.name:
        initial = made.parent.name
    else:
        changes.pop(LORA, None)
        no_model = NO_MODEL if config.data.init_from else ""
    if data in TEXTS or data in TASK_NAMES:
        return Draft(preset, {}, data, initial=initial).changed(changes), no_model
    if is_large(config.data):
        problem = TOO_LARGE.format(mb=f"{config.data.shard_from_mb:g}")
        return Draft(preset, {}, UPLOAD, initial=initial).changed(changes), problem
    try:
        separator = config.data.separator_text or "\n"
        how = (config.data.encoding, separator, config.data.text_field)
        text = load_text(data, DataConfig.max_text_mb, *how)
    except ValueError as error:
        problem = f"The run's text cannot be taken over. {without_advice(error)}"
        return Draft(preset, {}, UPLOAD, initial=initial).changed(changes), problem
    path = supervisor().keep_upload(text.encode(), ".txt")
    own = OwnText(path.stem, config.data.label)
    return Draft(preset, {}, UPLOAD, {UPLOAD: own}, initial).changed(changes), no_model


def draft_that_teaches(run_id: str, config: RunConfig) -> Draft:
    """The draft that goes on with a run's model, with its settings, on another text."""
    preset, changes = nearest_preset(config)
    text = next(name for name in TEXTS if name != config.data.data)
    own = shape_of(config)  # a task's context is in no change
    return Draft(preset, {}, text, initial=run_id).changed({**changes, **own})


def shape_of(config: RunConfig) -> dict[str, Any]:
    """By "part.field", what a run has to have that goes on with the model of this one."""
    decided = ("data.tokenizer", "data.separator")
    return {
        key: value
        for key, value in settings_of(config).items()
        if key in decided or (key.startswith("model.") and key.partition(".")[2] not in FREE)
    }


def shape_of_initial() -> dict[str, Any]:
    """What the model decides that the draft goes on with; nothing for fresh weights."""
    summary = supervisor().summary(draft().initial) if draft().initial else None
    return shape_of(summary.config) if summary and summary.config else {}
