"""The form of a run: text, model, training. It lives in the sidebar and gives a RunConfig."""

import dataclasses
from collections.abc import Callable

import streamlit as st

from keras_lm import corpus
from keras_lm.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.presets import PRESETS
from keras_lm.ui.services import supervisor

TITLES = {"quick-start": "Quick start", "word-pieces": "Word pieces", "original": "Original"}
CUSTOM = "Custom"
UPLOAD, PASTE = "Upload a file", "Paste a text"
PARTS = {"model": ModelConfig, "data": DataConfig, "training": TrainingConfig}
HEAD_COUNTS = (1, 2, 3, 4, 6, 8, 12)
CONTEXT_LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

SOURCE = "data.data"  # the key of the choice of text
KEPT_TEXT, KEPT_TITLE = "own_text", "own_title"  # in the address: the last uploaded or pasted text

# The fields the page offers, in its order: label and, for a number, its step or its choices.
TEXT_FIELDS = {
    "tokenizer": ("Tokenizer", None),
    "cleaning": ("Cleaning", None),
    "validation_fraction": ("Validation fraction", 0.05),
}
MODEL_FIELDS = {
    "attention": ("Attention", None),
    "num_blocks": ("Blocks", 1),
    "d_model": ("Width (d_model)", 16),
    "num_heads": ("Heads", HEAD_COUNTS),
    "ffn_dim": ("Feed-forward width (ffn_dim)", 32),
    "context_length": ("Context length", CONTEXT_LENGTHS),
    "norm": ("Normalization", None),
    "activation": ("Activation", None),
    "dropout": ("Dropout", 0.05),
}
MORE_MODEL_FIELDS = {
    "positions": ("Positions", None),
    "tie_embeddings": ("Tie embeddings", None),
    "use_bias": ("Biases", None),
    "qk_norm": ("QK-norm", None),
    "zero_init": ("Zero-initialized outputs", None),
    "logit_soft_cap": ("Logit soft cap", 5.0),
    "chunk_length": ("Chunk length (linear attention)", 16),
    "num_slots": ("Slots (linear attention)", 8),
}
TRAINING_FIELDS = {
    "steps": ("Steps", 100),
    "batch_size": ("Batch size", 1),
    "gradient_accumulation": ("Gradient accumulation", 1),
    "optimizer": ("Optimizer", None),
    "learning_rate": ("Learning rate", 1e-4),
    "seed": ("Seed", 1),
}
MORE_TRAINING_FIELDS = {
    "schedule": ("Schedule", None),
    "warmup_steps": ("Warm-up steps", 10),
    "min_learning_rate": ("Final learning rate", 1e-5),
    "weight_decay": ("Weight decay", 0.01),
    "momentum": ("Momentum (Muon)", 0.05),
    "beta_1": ("Beta 1", 0.01),
    "beta_2": ("Beta 2", 0.01),
    "epsilon": ("Epsilon", 1e-8),
    "clip_norm": ("Gradient clipping (global norm)", 0.5),
    "precision": ("Precision", None),
    "deterministic": ("Deterministic", None),
}
WATCHING_FIELDS = {
    "sample_prompt": ("Prompt of the samples", None),
    "sample_every": ("Steps between samples", 50),
    "sample_tokens": ("Tokens a sample", 20),
    "eval_every": ("Steps between validations", 50),
    "log_every": ("Steps between points of the curve", 10),
    "checkpoint_every": ("Steps between checkpoints", 100),
}


GROUPS = {
    "data": (TEXT_FIELDS,),
    "model": (MODEL_FIELDS, MORE_MODEL_FIELDS),
    "training": (TRAINING_FIELDS, MORE_TRAINING_FIELDS, WATCHING_FIELDS),
}
# Part and name of every setting with a widget here; the others keep their defaults.
WIDGETS = [(part, name) for part, groups in GROUPS.items() for group in groups for name in group]


class MissingText(ValueError):
    """Nothing is wrong: the text is still to come."""


def key_of(part: str, name: str) -> str:
    """The widget's key, such as model.d_model."""
    return f"{part}.{name}"


def apply_preset() -> None:
    """Puts the chosen preset's values into every widget; Custom leaves them as they are."""
    chosen = st.session_state.get("preset")
    for preset_name, preset in PRESETS.items():
        if TITLES[preset_name] == chosen:
            for part, name in WIDGETS:
                st.session_state[key_of(part, name)] = getattr(getattr(preset, part), name)


def mark_custom() -> None:
    """A changed setting is no longer the preset's."""
    st.session_state["preset"] = CUSTOM


def run_form() -> RunConfig:
    """Draws the form; returns what it says.

    Raises:
        MissingText: when a text is to be handed in and none has come yet.
        ValueError: with one sentence when the settings do not fit together.
    """
    st.subheader("Settings of a new run")
    st.pills(
        "Preset",
        [TITLES[name] for name in PRESETS] + [CUSTOM],
        default=TITLES["quick-start"],
        key="preset",
        required=True,
        on_change=apply_preset,
        bind="query-params",
        help="Quick start: the best recipe for a minute on a CPU. Word pieces: the same with "
        "GPT-2's tokens. Original: the recipe of the browser app that this is a port of, six "
        "blocks with linear attention. Any change makes it Custom.",
    )
    chosen, title, content = text_form()
    with st.expander("Model", icon=":material/account_tree:", expanded=True):
        draw("model", MODEL_FIELDS)
    with st.expander("Training", icon=":material/trending_down:", expanded=True):
        draw("training", TRAINING_FIELDS)
    with st.expander("Samples and validation", icon=":material/visibility:"):
        draw("training", WATCHING_FIELDS)
    with st.expander("More of the model", icon=":material/tune:"):
        draw("model", MORE_MODEL_FIELDS)
    with st.expander("More of the training", icon=":material/tune:"):
        draw("training", MORE_TRAINING_FIELDS)
    # Whatever is missing is told when all is drawn: what is not drawn forgets its value.
    if chosen in (UPLOAD, PASTE):
        chosen, title = own_text(content, title)
    data = DataConfig(**stored("data"), data=chosen, title=title)
    return RunConfig(ModelConfig(**stored("model")), data, TrainingConfig(**stored("training")))


def stored(part: str) -> dict:
    """The values of one part's widgets."""
    return {name: st.session_state[key_of(part, name)] for owner, name in WIDGETS if owner == part}


def in_words(problem: str) -> str:
    """A config's complaint with the sidebar's label where it names a field."""
    for part, groups in GROUPS.items():
        for name, (label, _) in (item for group in groups for item in group.items()):
            problem = problem.replace(f"{PARTS[part].__name__}.{name} ", f"{label} ")
    return problem


def draw(part: str, fields: dict[str, tuple]) -> None:
    """One widget a field, of the kind that suits its values; the address keeps what is changed."""
    specs = {spec.name: spec for spec in dataclasses.fields(PARTS[part])}
    for name, (label, values) in fields.items():
        spec, default = specs[name], getattr(getattr(PRESETS["quick-start"], part), name)
        shared = {
            "key": key_of(part, name),
            "help": spec.metadata["help"],
            "on_change": mark_custom,
            "bind": "query-params",
        }
        if choices := spec.metadata["choices"]:
            st.selectbox(label, choices, choices.index(default), **shared)
        elif spec.type is bool:
            st.toggle(label, default, **shared)
        elif spec.type is str:
            st.text_input(label, default, **shared)
        elif name in ("num_heads", "context_length"):
            st.select_slider(label, values, default, **shared)
        else:
            number_input(label, default, spec.type, values, **shared)


def number_input(label: str, default: float, kind: Callable, step: float, **shared) -> None:
    """A number field. Its range is the config's to check, which tells what is wrong in words."""
    form = "%d" if kind is int else "%.2f" if step >= 0.01 else "%.5f" if step >= 1e-5 else "%.0e"
    st.number_input(label, value=default, step=kind(step), format=form, **shared)


def text_form() -> tuple[str, str, bytes | None]:
    """Chooses the text: its name or UPLOAD or PASTE; for these two its title and its bytes."""
    titles = {name: text.title for name, text in (corpus.BUILT_IN | corpus.CATALOGUE).items()}
    title, content = "", None
    with st.expander("Text", icon=":material/menu_book:", expanded=True):
        chosen = st.selectbox(
            "Text",
            [*titles, UPLOAD, PASTE],
            [*titles].index(PRESETS["quick-start"].data.data),
            format_func=lambda name: titles.get(name, name),
            key=SOURCE,
            bind="query-params",
            help="Built-in texts need no network; catalogue texts are downloaded once.",
        )
        if chosen == UPLOAD:
            if upload := st.file_uploader("A text file", key="text.uploaded"):
                title, content = upload.name, upload.getvalue()
        elif chosen == PASTE:
            pasted = st.text_area(
                "Your text", key="text.pasted", height=160, persist_state="session"
            )
            title, content = "pasted text", pasted.encode(errors="replace") if pasted else None
        draw("data", TEXT_FIELDS)
    return chosen, title, content


def own_text(content: bytes | None, title: str) -> tuple[str, str]:
    """The file in which a text is kept, and its title; a reload goes on with the one before."""
    if content is not None:
        corpus.read_text(content, max_text_mb=DataConfig.max_text_mb)
        stem = supervisor().keep_upload(content, ".txt").stem
    elif KEPT_TEXT in st.query_params:
        stem, title = (st.query_params.get(key, "") for key in (KEPT_TEXT, KEPT_TITLE))
    else:  # another page was shown in between
        stem, title = st.session_state.get(KEPT_TEXT, ("", ""))
    path = supervisor().kept_upload(stem, ".txt")
    if path is None:
        raise MissingText("Hand in your text in the sidebar, or choose a built-in one.")
    st.session_state[KEPT_TEXT] = stem, title
    st.query_params.update({KEPT_TEXT: stem, KEPT_TITLE: title})
    return str(path), title
