"""The form of a new run: preset, text, size and length; all else waits under "Advanced"."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from keras_lm.data.reading import read_text
from keras_lm.data.texts import TEXTS
from keras_lm.presentation.formatting import escape_markdown, label_runs, plural, show_value
from keras_lm.settings.checks import help_of
from keras_lm.settings.config import DataConfig, RunConfig
from keras_lm.settings.data_config import TASK, TASK_NAMES
from keras_lm.settings.presets import PRESETS, TITLES
from keras_lm.settings.training_config import ENDING
from keras_lm.ui.parts.draft import (
    LORA,
    PASTE,
    SECONDS,
    STEPS,
    TEXT,
    UPLOAD,
    OwnText,
    draft,
    keep,
    kept_file,
    shape_of_initial,
    show_in_address,
)
from keras_lm.ui.parts.fields import (
    LENGTH,
    OF_MODEL,
    OF_TEXTS,
    SIZES,
    all_specs,
    choice_label,
    groups,
    label_of,
)
from keras_lm.ui.services import supervisor

RESTORED_BYTES = 1_000_000  # a longer pasted text is not put back into its box after a reload
PASTED_TITLE = "pasted text"
FORMATS = ((1, "%g"), (0.01, "%.2f"), (1e-5, "%.5f"), (0, "%.0e"))  # by the least step
MINUTE = 60.0  # seconds: what is offered to a run that had a number of steps


class MissingText(ValueError):
    """Nothing is wrong: the text is still to come."""


def run_form() -> tuple[Callable[[str], object], Callable[[], RunConfig]]:
    """Draws the form.

    Returns:
        A function that writes a line beside the length, and one that gives the form's config. It
        raises MissingText while a text is still to come, and ValueError with one sentence when the
        settings do not fit together.
    """
    show_in_address()
    if draft().initial:
        show_initial()
    sync("preset", TITLES[draft().preset])
    st.pills(
        "Preset",
        [*TITLES.values()],
        default=TITLES[draft().preset],
        key="preset",
        required=True,
        on_change=take_preset,
        help="Quick start: the best recipe for a minute on a CPU. Five minutes and Fifteen "
        "minutes: larger models, which learn more in that time. Original: the recipe of the "
        "browser app that this is a port of, six blocks with linear attention. Task: for the "
        "generated tasks among the texts.",
    )
    own = text_form()
    size_form()
    advanced = groups()
    advanced.pop(LENGTH)
    advanced[ENDING].remove(SECONDS)
    length_form()
    of_task = advanced.pop(TASK)
    if draft().text in TASK_NAMES:
        draw(of_task)
        advanced.pop(OF_TEXTS)
        advanced[OF_MODEL].remove("model.context_length")
    beside_length = st.empty()
    beside_length.caption("…")
    group = st.pills("Advanced", [*advanced], key="advanced")
    if group:  # all forty fields at once would take a browser a second
        draw(advanced[group])
    describe_changes()
    return beside_length.caption, lambda: config_of(own)


def show_initial() -> None:
    """Which run's model the new run goes on with, and the way to fresh weights."""
    summary = supervisor().summary(draft().initial)
    name = label_runs([summary])[summary.run_id] if summary else "a run that is gone"
    st.caption(
        f"**Goes on with the model of:** {escape_markdown(name)}. Its shape and tokenizer stay; "
        "choose the text that it should learn."
    )
    st.button(
        "Begin with fresh weights",
        type="tertiary",
        icon=":material/undo:",
        key="initial.drop",
        on_click=lambda: keep(draft().without_initial()),
    )
    draw([LORA])


def config_of(own: Callable[[], OwnText]) -> RunConfig:
    """The config that the form describes; for what it raises see `run_form`."""
    if draft().text not in (UPLOAD, PASTE):
        return draft().config(draft().text, "")
    text = own()
    path = kept_file(text)
    if path is None:
        raise MissingText("Upload or paste your text, or choose one of the built-in texts.")
    return draft().config(str(path), text.title)


def sync(key: str, value: object) -> None:
    """Lets the widget with that key show `value`, which must be its default, too.

    The browser hears of the state only once, and not at all when another run of the page comes
    first; then it shows the default.
    """
    if st.session_state.get(key) != value:
        st.session_state[key] = value


def take_preset() -> None:
    """Another preset as it is; the text stays, but between texts and tasks the preset's comes.

    A model that the run goes on with keeps its shape, its tokens and its text.
    """
    names = {title: name for name, title in TITLES.items()}
    chosen = names.get(st.session_state["preset"])
    if chosen and chosen != draft().preset:  # a browser may report a choice that is none
        if draft().initial:
            as_it_is = {**shape_of_initial(), LORA: draft().values[LORA]}
            keep(replace(draft(), preset=chosen, changes={}).changed(as_it_is))
            return
        text, suiting = draft().text, PRESETS[chosen].data.data
        if (text in TASK_NAMES) != (suiting in TASK_NAMES):
            text = suiting
        keep(replace(draft(), preset=chosen, text=text, changes={}))


def take_text() -> None:
    """Another text; between texts and tasks with the preset that suits it."""
    text = st.session_state[TEXT]
    changed = replace(draft(), text=text)
    if (text in TASK_NAMES) != (draft().text in TASK_NAMES) and not draft().initial:
        preset = "task" if text in TASK_NAMES else "quick-start"
        changed = replace(changed, preset=preset, changes={})
    keep(changed)


def take_back() -> None:
    """The preset without what differs from it, but for what a model to go on with decides."""
    keep(replace(draft(), changes={}).changed(shape_of_initial()))


def take(key: str) -> None:
    """What was entered into the widget of one setting."""
    keep(draft().changed({key: st.session_state[key]}))


def size_form() -> None:
    """Blocks, width, heads and feed-forward width together; what they are stands below."""
    values = draft().values
    sizes = {name: {f"model.{k}": v for k, v in size.items()} for name, size in SIZES.items()}
    fitting = (name for name, size in sizes.items() if size.items() <= values.items())
    size = next(fitting, None)
    sync("size", size)

    def take_size() -> None:
        if chosen := st.session_state["size"]:
            keep(draft().changed(sizes[chosen]))

    st.pills("Size", [*SIZES], default=size, key="size", on_change=take_size)
    st.caption(
        f"{plural(values['model.num_blocks'], 'block')} of width {values['model.d_model']:,}, "
        f"{plural(values['model.num_heads'], 'head')}, {values['model.attention']} attention"
    )


def length_form() -> None:
    """In what the run's length is measured, and how much of it; a budget of tokens is advanced."""
    is_timed = bool(draft().values[SECONDS])
    units = {"Seconds": {SECONDS: MINUTE}, "Steps": {STEPS: draft().values[STEPS]}}
    unit = "Seconds" if is_timed else "Steps"
    sync("length", unit)

    def take_unit() -> None:
        if chosen := units.get(st.session_state["length"]):
            keep(draft().changed(chosen))

    left, right = st.columns([5, 3])
    with left:
        st.pills(
            "Length in", [*units], default=unit, key="length", required=True, on_change=take_unit
        )
    with right:
        draw([SECONDS if is_timed else STEPS])


def draw(keys: list[str]) -> None:
    """One widget for each setting, "part.field", of the kind that suits its values."""
    specs, values = all_specs(), draft().values
    for key in keys:
        spec, value = specs[key], values[key]
        kind: Any = spec.type
        label, suggested = spec.metadata["label"], spec.metadata["suggested"]
        sync(key, kind(value))
        shared = {"key": key, "help": help_of(spec), "on_change": take, "args": (key,)}
        if choices := spec.metadata["choices"]:
            offered = spec.metadata["offered"] or choices
            names = [*offered, *({value} - {*offered})]
            shown = partial(choice_label, choices)
            st.selectbox(label, names, names.index(value), format_func=shown, **shared)
        elif kind is bool:
            st.toggle(label, value, **shared)
        elif kind is str:
            st.text_input(label, value, **shared)
        elif suggested:
            st.select_slider(label, sorted({*suggested, value}), value, **shared)
        else:
            number_input(label, kind(value), spec.metadata["step"], **shared)


def number_input(label: str, value: float, step: float, **shared) -> None:
    """A number field. Its range is the config's to check, which says what is wrong in words."""
    kind = type(value)
    form = "%d" if kind is int else next(form for least, form in FORMATS if step >= least)
    st.number_input(label, value=value, step=kind(step), format=form, **shared)


def describe_changes() -> None:
    """What differs from the preset, and the way back."""
    changes, title = draft().changes, TITLES[draft().preset]
    for problem in st.session_state["draft.problems"]:
        st.warning(escape_markdown(problem))
    if changes:
        shown = (f"{label_of(key)}: {show_value(value)}" for key, value in changes.items())
        st.caption(f"**Differs from {title}**")
        st.code("\n".join(shown), language=None, wrap_lines=True)
        st.button(f"Back to {title}", type="tertiary", icon=":material/undo:", on_click=take_back)


def text_form() -> Callable[[], OwnText]:
    """Chooses the text; returns how to find the person's own one, which raises what is wrong."""
    titles = {name: text.title for name, text in TEXTS.items()}
    if not draft().initial or draft().text in TASK_NAMES:  # a model that goes on needs a text
        titles |= {name: f"Task: {task.label}" for name, task in TASK_NAMES.items()}
    titles |= {UPLOAD: "Upload a file", PASTE: "Paste a text"}
    sync(TEXT, draft().text)
    st.selectbox(
        "Text",
        [*titles],
        [*titles].index(draft().text),
        format_func=titles.__getitem__,
        key=TEXT,
        on_change=take_text,
        help="Built-in texts need no network; catalogue texts are downloaded once. A task is "
        "generated while the model learns, and its answers are right or wrong.",
    )
    if task := TASK_NAMES.get(draft().text):
        st.caption(f"The model {escape_markdown(task.sentence)}")
    if draft().text == UPLOAD:
        # A model, for which the server's limit is meant, may be larger.
        upload = st.file_uploader(
            "A text file",
            key="text.uploaded",
            max_upload_size=int(DataConfig.max_text_mb),
            help="A larger text is trained on from the command line: `python -m keras_lm train "
            "--data FILE --max-text-mb 20000 --run-dir runs/NEW`",
        )
        name = st.empty()
        if own := draft().own.get(UPLOAD):
            name.caption(escape_markdown(f"In use: {own.title}"))

        def uploaded() -> OwnText:
            if upload is None or upload.file_id == st.session_state.get("text.read"):
                return draft().own.get(UPLOAD, OwnText("", ""))
            own = keep_own(UPLOAD, upload.getvalue(), upload.name)
            st.session_state["text.read"] = upload.file_id
            name.caption(escape_markdown(f"In use: {own.title}"))
            return own

        return uploaded
    if draft().text == PASTE:
        restore_paste()
        pasted = st.text_area(
            "Your text",
            key="text.pasted",
            height=160,
            on_change=forget_paste,
            persist_state="session",
        )
        if not pasted:
            return lambda: OwnText("", "")
        return lambda: keep_own(PASTE, pasted.encode(errors="replace"), PASTED_TITLE)
    return lambda: OwnText("", "")


def restore_paste() -> None:
    """After a reload, puts the text back into its box: what is used is what is seen."""
    path = kept_file(draft().own.get(PASTE))
    if "text.pasted" not in st.session_state and path and path.stat().st_size <= RESTORED_BYTES:
        st.session_state["text.pasted"] = path.read_bytes().decode(errors="replace")


def forget_paste() -> None:
    """What was pasted before is not used any more."""
    keep(replace(draft(), own={k: own for k, own in draft().own.items() if k != PASTE}))


def keep_own(kind: str, content: bytes, title: str) -> OwnText:
    """Keeps a person's text among the uploads; ValueError when it is none."""
    read_text(content, max_text_mb=DataConfig.max_text_mb)
    own = OwnText(supervisor().keep_upload(content, ".txt").stem, title)
    if draft().own.get(kind) != own:
        keep(replace(draft(), own=draft().own | {kind: own}))
    return own
