"""The form of a run: text, model, training. It lives in the sidebar and gives a RunConfig."""

import dataclasses
from collections.abc import Callable

import streamlit as st

from keras_lm import corpus
from keras_lm.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.presets import PRESETS
from keras_lm.ui.services import supervisor

TITLES = {"quick-start": "Quick start", "original": "Original"}
CUSTOM = "Custom"
UPLOAD, PASTE = "Upload a file", "Paste a text"
PARTS = {"model": ModelConfig, "data": DataConfig, "training": TrainingConfig}
HEAD_COUNTS = (1, 2, 3, 4, 6, 8, 12)
CONTEXT_LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

SOURCE = "data.data"  # the key of the choice of text

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
    "beta_1": ("Beta 1", 0.01),
    "beta_2": ("Beta 2", 0.01),
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


class MissingText(ValueError):
    """Nothing is wrong: the text is still to come."""


def key_of(part: str, name: str) -> str:
    """The widget's key, such as model.d_model."""
    return f"{part}.{name}"


def apply_preset() -> None:
    """Puts the chosen preset's values into every widget; Custom leaves them as they are."""
    chosen = st.session_state.get("preset")
    for name, preset in PRESETS.items():
        if TITLES[name] == chosen:
            for part in PARTS:
                values = dataclasses.asdict(getattr(preset, part))
                if SOURCE in st.session_state:
                    values.pop("data", None)  # the text stays the person's choice
                st.session_state.update({key_of(part, k): v for k, v in values.items()})


def mark_custom() -> None:
    """A changed setting is no longer the preset's."""
    st.session_state["preset"] = CUSTOM


def run_form() -> RunConfig:
    """Draws the form; returns what it says.

    Raises:
        MissingText: when a text is to be handed in and none has come yet.
        ValueError: with one sentence when the settings do not fit together.
    """
    if key_of("model", "d_model") not in st.session_state:
        st.session_state.setdefault("preset", TITLES["quick-start"])
        apply_preset()
    st.subheader("Settings of a new run")
    st.pills(
        "Preset",
        [TITLES[name] for name in PRESETS] + [CUSTOM],
        key="preset",
        required=True,
        on_change=apply_preset,
        persist_state="session",
        help="Quick start: the best recipe for a minute on a CPU. Original: the recipe of the "
        "browser app that this is a port of, six blocks with linear attention. Any change makes it "
        "Custom.",
    )
    chosen, content = text_form()
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
    data = DataConfig(**(stored("data") | {"data": text_name(chosen, content)}))
    return RunConfig(ModelConfig(**stored("model")), data, TrainingConfig(**stored("training")))


def stored(part: str) -> dict:
    """The values of one part's widgets."""
    names = (spec.name for spec in dataclasses.fields(PARTS[part]))
    return {name: st.session_state[key_of(part, name)] for name in names}


def draw(part: str, fields: dict[str, tuple]) -> None:
    """One widget a field, of the kind that suits its values."""
    specs = {spec.name: spec for spec in dataclasses.fields(PARTS[part])}
    for name, (label, values) in fields.items():
        spec, key = specs[name], key_of(part, name)
        shared = {
            "key": key,
            "help": spec.metadata["help"],
            "on_change": mark_custom,
            "persist_state": "session",  # also while another page is shown
        }
        if spec.metadata["choices"]:
            st.selectbox(label, spec.metadata["choices"], **shared)
        elif spec.type is bool:
            st.toggle(label, **shared)
        elif spec.type is str:
            st.text_input(label, **shared)
        elif name in ("num_heads", "context_length"):
            options = sorted({*values, st.session_state[key]})
            st.select_slider(label, options, **shared)
        else:
            number_input(label, spec.type, values, **shared)


def number_input(label: str, kind: Callable, step: float, **shared) -> None:
    """A number field. Its range is the config's to check, which tells what is wrong in words."""
    decimals = "%d" if kind is int else ("%.2f" if step >= 0.01 else "%.5f")
    st.number_input(label, step=kind(step), format=decimals, **shared)


def text_form() -> tuple[str, bytes | None]:
    """Chooses the text: its name or UPLOAD or PASTE, and for these two what was handed in."""
    titles = {name: text.title for name, text in (corpus.BUILT_IN | corpus.CATALOGUE).items()}
    content = None
    with st.expander("Text", icon=":material/menu_book:", expanded=True):
        chosen = st.selectbox(
            "Text",
            [*titles, UPLOAD, PASTE],
            format_func=lambda name: titles.get(name, name),
            key=SOURCE,
            persist_state="session",
            help="Built-in texts need no network; catalogue texts are downloaded once.",
        )
        if chosen == UPLOAD:
            upload = st.file_uploader("A text file", key="text.uploaded")
            content = upload.getvalue() if upload else None
        elif chosen == PASTE:
            pasted = st.text_area(
                "Your text", key="text.pasted", height=160, persist_state="session"
            )
            content = pasted.encode(errors="replace") if pasted else None
        draw("data", TEXT_FIELDS)
    return chosen, content


def text_name(chosen: str, content: bytes | None) -> str:
    """What DataConfig calls the text: its name, or the file in which `content` is kept."""
    if chosen not in (UPLOAD, PASTE):
        return chosen
    if content is None:
        raise MissingText(f"{chosen} in the sidebar, or choose a built-in text.")
    corpus.read_text(content, "the text", st.session_state[key_of("data", "max_text_mb")])
    return str(supervisor().keep_upload(content, ".txt"))
