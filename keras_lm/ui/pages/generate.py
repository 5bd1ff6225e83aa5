"""The Generate page: a prompt, a model, and the text as it is made; earlier texts stay below."""

import html
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from keras_lm.presentation.formatting import escape_markdown
from keras_lm.runs.workers import Reply, WorkerClient
from keras_lm.settings.config import GenerationConfig
from keras_lm.ui.parts.beginnings import beginnings, first_beginning, suggest
from keras_lm.ui.parts.copied import show_copies
from keras_lm.ui.parts.copying import copy_button
from keras_lm.ui.parts.models import (
    BUSY,
    binding,
    choose_model,
    find_model_file,
    find_worker,
    label_of,
    loading_error,
    look_at,
    model_before,
    name_of,
    open_page,
    text_of,
)
from keras_lm.ui.reach import announce

WHOLE = re.compile("[0-9]{1,12}")
POLL_SECONDS, WAITING_SECONDS = 0.2, 1.0
SHOWN_PROMPT = 400  # characters
MOST_CONTINUATIONS = 4
MOST_TEXTS = 20  # that are kept
NEW_SEEDS = 1_000_000  # a drawn seed is short enough to be typed again
FIELDS: dict[str, Any] = {spec.name: spec.metadata for spec in GenerationConfig.specs()}
GO = "generate.again"  # in the session: a button below a text has set the form, which shall run


@dataclass(frozen=True)
class Generated:
    """A prompt's continuations, complete or not, and all that they were made with."""

    number: int
    model_file: Path
    label: str
    prompt: str
    settings: dict
    worker: WorkerClient
    reply: Reply
    before: "Generated | None" = None  # by the model as it was before it was taught

    @property
    def done(self) -> bool:
        """Whether all of it is complete."""
        return self.reply.done and (self.before is None or self.before.done)


def page() -> None:
    """Draws the page."""
    st.title("Generate", anchor=False)
    with st.sidebar:
        st.subheader("Settings")
        settings, count = settings_form()
    again = st.session_state.pop(GO, False)
    model_file = choose_model()
    if model_file is not None:
        prompt_form(model_file, settings, count, again)
    draw_texts()


def settings_form() -> tuple[dict, int]:
    """The sampling settings, without a seed unless it is fixed, and how many continuations."""
    settings = {
        name: setting_slider(name, field) for name, field in FIELDS.items() if field["slider"]
    }
    count = st.slider(
        "Continuations",
        1,
        MOST_CONTINUATIONS,
        key="count",
        help="Several of the same prompt side by side; each further one has the next seed.",
        bind="query-params",
    )
    if st.toggle(
        "Fixed seed",
        key="fixed_seed",
        help="The same prompt, settings and seed give the same text again. Otherwise every text "
        "has a new seed, which is shown with it.",
        bind="query-params",
    ):
        if not WHOLE.fullmatch(st.query_params.get("seed", "0")):
            del st.query_params["seed"]  # of an infinite number Streamlit makes an error
        settings["seed"] = st.number_input(
            FIELDS["seed"]["label"],
            FIELDS["seed"]["low"],
            FIELDS["seed"]["high"],
            GenerationConfig.seed,
            key="seed",
            help=FIELDS["seed"]["help"],
            bind="query-params",
        )
    return settings, count


def setting_slider(name: str, field: Mapping[str, Any]) -> Any:
    """The slider of a setting, and the value that it has."""
    low, high = field["slider"]
    return st.slider(
        field["label"],
        low,
        high,
        getattr(GenerationConfig, name),
        field["step"],
        key=name,
        help=field["help"],
        bind="query-params",
    )


def prompt_form(model_file: Path, settings: dict, count: int, again: bool) -> None:
    """The prompt, ways to begin, and the buttons; starts a text when it is asked for."""
    data = text_of(model_file)
    examples = beginnings(data) if data else []
    suggest("prompt", first_beginning(data))
    prompt = st.text_area("Prompt", key="prompt", height=90, bind=binding("prompt"))
    if examples:
        st.pills(
            "Beginnings from its training text",
            examples,
            key="example",
            on_change=take_example,
        )
    before = [path for path in [model_before(model_file)] if path]
    if before and not st.toggle(
        "Beside it, the model before it was taught",
        value=True,
        key="beside",
        help="Both go on with the same prompt, with the same settings and seed.",
        bind="query-params",
    ):
        before = []
    worker = find_worker(model_file)  # it loads while the prompt is written
    buttons = st.container(horizontal=True)
    clicked = buttons.button(
        "Generate",
        type="primary",
        icon=":material/auto_awesome:",
        key="generate.go",
        shortcut="Ctrl+Enter",
    )
    if worker is None:
        if clicked or again:
            st.session_state[GO] = True
            st.fragment(wait_for_room, run_every=WAITING_SECONDS)(model_file)
    elif clicked or again:
        begin([model_file, *before], prompt, settings, count)
    else:
        worker.prepare(count)
    if (newest := newest_text()) and not newest.done:
        buttons.button("Stop", icon=":material/stop:", key="generate.stop", on_click=cancel)


def wait_for_room(model_file: Path) -> None:
    """Draws the page again, which generates then, as soon as the model may have a worker."""
    if find_worker(model_file) is not None:
        st.rerun()
    st.caption(f"{BUSY}: this one's turn comes in a moment.")


def take_example() -> None:
    """Makes the chosen beginning the prompt."""
    if st.session_state["example"]:
        st.session_state["prompt"] = st.session_state["example"]
    st.session_state["example"] = None


def begin(model_files: Sequence[Path], prompt: str, settings: dict, count: int) -> None:
    """Asks the models' workers for texts; `draw_texts` draws them.

    Args:
        model_files: the model's, and the one before it was taught, if that is to be seen beside it.
        prompt, settings, count: for each of them.
    """
    cancel()
    settings = {"seed": random.randrange(NEW_SEEDS)} | settings
    texts = st.session_state.setdefault("texts", [])
    number = texts[0].number + 1 if texts else 0
    made: list[Generated] = []
    for model_file in model_files:
        worker, label = find_worker(model_file), label_of(name_of(model_file))
        if worker is None:
            st.caption(escape_markdown(f"{BUSY}: {label} is left out."))
            continue
        reply = worker.generate([prompt] * count, settings)
        made.append(Generated(number, model_file, label, prompt, settings, worker, reply))
    if not made:
        return
    generated = replace(made[0], before=made[1]) if made[1:] else made[0]
    texts.insert(0, generated)
    del texts[MOST_TEXTS:]


def newest_text() -> Generated | None:
    """What this tab generated last."""
    return next(iter(st.session_state.get("texts") or []), None)


def cancel() -> None:
    """Ends what this tab is generating, if anything."""
    part = newest_text()
    while part is not None:
        if not part.reply.done:
            part.worker.cancel(part.reply)
        part = part.before


def draw_texts() -> None:
    """All texts of this session, newest first; the newest is drawn again while more comes."""
    texts: list[Generated] = st.session_state.get("texts", [])
    if not texts:
        return
    newest, *earlier = texts
    announce("The text is complete." if newest.done else "Generating.", key="reach-text")
    if newest.done:
        draw_beside(newest)
    else:
        st.fragment(draw_unfinished, run_every=POLL_SECONDS)(newest)
    if earlier:
        st.header("Earlier texts", anchor=False)
        for generated in earlier:
            draw_beside(generated)


def draw_unfinished(newest: Generated) -> None:
    """The text so far; when it is complete, the whole page, whose buttons change."""
    if newest.done:
        st.rerun()
    draw_beside(newest)


def draw_beside(generated: Generated) -> None:
    """A model's texts, and on their left those of the model before it was taught."""
    if generated.before is None:
        draw_generated(generated, "text")
        return
    before, after = st.columns(2)
    with before:
        st.markdown("**Before it was taught**")
        draw_generated(generated.before, "before")
    with after:
        st.markdown("**After**")
        draw_generated(generated, "text")


def draw_generated(generated: Generated, kind: str) -> None:
    """Prompt and continuations, how they were made, and what can be done with them."""
    reply = generated.reply
    error = loading_error(generated.worker, generated.model_file) or reply.error
    parts = [generated.label, describe(generated.settings)]
    if reply.done and not error:
        parts.append(
            f"{sum(map(len, reply.texts)):,} characters in {reply.result['seconds']:.2f} s"
        )
    with st.container(key=f"{kind}-{generated.number}"):
        st.caption(escape_markdown(" · ".join(parts)))
        if not error or any(reply.texts):
            for row, column in enumerate(st.columns(len(reply.texts))):
                with column:
                    draw_continuation(generated, row, kind)
        if error:
            st.error(escape_markdown(error), icon=":material/error:")
        elif reply.done:
            draw_notes(reply)
        elif not generated.worker.loading.done:
            st.caption("Loading the model (a few seconds, the first time only)")
        elif not any(reply.texts):
            st.caption("The text begins in a moment.")


def draw_continuation(generated: Generated, row: int, kind: str) -> None:
    """One continuation after its prompt; when it is complete, its buttons and its copies."""
    text = generated.reply.texts[row]
    key = f"{generated.number}-{row}{'' if kind == 'text' else f'-{kind}'}"
    with st.container(border=True, key=f"generated-{key}"):
        st.html(
            '<p style="white-space: pre-wrap; overflow-wrap: anywhere; margin: 0">'
            f"<b>{html.escape(shorten(generated.prompt))}</b>{html.escape(text)}</p>"
        )
    if generated.reply.done and not generated.reply.error:
        with st.container(horizontal=True, gap="small"):
            draw_buttons(generated, row, key)
        show_copies(text_of(generated.model_file), text)


def draw_buttons(generated: Generated, row: int, key: str) -> None:
    """What can be done with a continuation; without its model it can be copied only."""
    whole, model = generated.prompt + generated.reply.texts[row], name_of(generated.model_file)
    copy_button(whole, f"copy-{key}")
    if find_model_file(model) is None:
        return
    st.button(
        "Continue",
        icon=":material/arrow_forward:",
        key=f"continue-{key}",
        help="Prompt and text become the next prompt.",
        on_click=continue_text,
        args=(model, whole),
    )
    if row == 0:
        st.button(
            "Another one",
            icon=":material/refresh:",
            key=f"another-{key}",
            help="The same model, prompt and settings with another seed.",
            on_click=repeat,
            args=(generated,),
        )
    if st.button("Inspect", icon=":material/search:", key=f"inspect-{key}"):
        open_page("inspect", model, text=whole)


def continue_text(model: str, text: str) -> None:
    """Makes a text the prompt and generates."""
    look_at(model)
    st.session_state.update({"prompt": text, GO: True})


def repeat(generated: Generated) -> None:
    """Puts a text's model, prompt and settings into the form, and generates with another seed."""
    look_at(name_of(generated.model_file))
    count = len(generated.reply.texts)
    form = generated.settings | {"prompt": generated.prompt, "count": count, GO: True}
    form["seed"] += count  # used where it is fixed
    st.session_state.update(form)


def describe(settings: dict) -> str:
    """The settings in a few words, without those that do nothing."""
    parts = [f"seed {settings['seed']}", f"temperature {settings['temperature']:g}"]
    for name, field in FIELDS.items():
        if field["neutral"] is not None and settings[name] != field["neutral"]:
            parts.append(f"{field['label'].lower()} {settings[name]:g}")
    return ", ".join(parts)


def draw_notes(reply: Reply) -> None:
    """What of the prompt was not used."""
    if unknown := reply.result["unknown"]:
        shown = escape_markdown(" ".join(repr(piece) for piece in unknown[:10]))
        st.caption(f"Ignored, since the training text does not contain them: {shown}")
    if cut := reply.result["tokens_cut"]:
        st.caption(
            f"The prompt is longer than the model's context: its first {cut:,} tokens are ignored."
        )


def shorten(prompt: str) -> str:
    """The end of a long prompt, which is what the text goes on from.

    Example:
        >>> shorten("The man"), len(shorten("a" * 100_000)) < 1_000
        ('The man', True)
    """
    return prompt if len(prompt) <= SHOWN_PROMPT else f"… {prompt[-SHOWN_PROMPT:]}"
