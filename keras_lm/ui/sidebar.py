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

# The fields the page offers, in its order: label and, for a number, the range people use.
TEXT_FIELDS = {
    "tokenizer": ("Tokenizer", None),
    "cleaning": ("Cleaning", None),
    "validation_fraction": ("Validation fraction", (0.0, 0.5, 0.05)),
}
MODEL_FIELDS = {
    "attention": ("Attention", None),
    "num_blocks": ("Blocks", (1, 24, 1)),
    "d_model": ("Width (d_model)", (32, 768, 16)),
    "num_heads": ("Heads", HEAD_COUNTS),
    "ffn_dim": ("Feed-forward width (ffn_dim)", (32, 3072, 32)),
    "context_length": ("Context length", CONTEXT_LENGTHS),
    "norm": ("Normalization", None),
    "activation": ("Activation", None),
    "dropout": ("Dropout", (0.0, 0.5, 0.05)),
}
MORE_MODEL_FIELDS = {
    "positions": ("Positions", None),
    "tie_embeddings": ("Tie embeddings", None),
    "use_bias": ("Biases", None),
    "qk_norm": ("QK-norm", None),
    "zero_init": ("Zero-initialized outputs", None),
    "logit_soft_cap": ("Logit soft cap", (0.0, 100.0, 5.0)),
    "chunk_length": ("Chunk length (linear attention)", (1, 1024, 16)),
    "num_slots": ("Slots (linear attention)", (1, 256, 8)),
}
TRAINING_FIELDS = {
    "steps": ("Steps", (1, 100_000, 100)),
    "batch_size": ("Batch size", (1, 128, 1)),
    "gradient_accumulation": ("Gradient accumulation", (1, 32, 1)),
    "optimizer": ("Optimizer", None),
    "learning_rate": ("Learning rate", (1e-5, 1e-1, 1e-4)),
    "seed": ("Seed", (0, 2**31 - 1, 1)),
}
MORE_TRAINING_FIELDS = {
    "schedule": ("Schedule", None),
    "warmup_steps": ("Warm-up steps", (0, 10_000, 10)),
    "min_learning_rate": ("Final learning rate", (0.0, 1e-1, 1e-5)),
    "weight_decay": ("Weight decay", (0.0, 1.0, 0.01)),
    "beta_1": ("Beta 1", (0.0, 0.9999, 0.01)),
    "beta_2": ("Beta 2", (0.0, 0.99999, 0.01)),
    "clip_norm": ("Gradient clipping (global norm)", (0.0, 100.0, 0.5)),
    "precision": ("Precision", None),
    "deterministic": ("Deterministic", None),
}
WATCHING_FIELDS = {
    "sample_prompt": ("Prompt of the samples", None),
    "sample_every": ("Steps between samples", (0, 100_000, 50)),
    "sample_tokens": ("Tokens a sample", (1, 1_000, 20)),
    "eval_every": ("Steps between validations", (0, 100_000, 50)),
    "log_every": ("Steps between points of the curve", (1, 1_000, 10)),
    "checkpoint_every": ("Steps between checkpoints", (0, 100_000, 100)),
}


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
        ValueError: with one sentence when the settings do not fit together.
    """
    if key_of("model", "d_model") not in st.session_state:
        st.session_state.setdefault("preset", TITLES["quick-start"])
        apply_preset()
    st.segmented_control(
        "Preset",
        [TITLES[name] for name in PRESETS] + [CUSTOM],
        key="preset",
        required=True,
        on_change=apply_preset,
        persist_state="session",
        help="Quick start: the best recipe for a minute on a CPU. Any change makes it Custom.",
    )
    data = text_form()
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


def number_input(label: str, kind: Callable, values: tuple, **shared) -> None:
    """A number field whose step fits its range."""
    low, high, step = (kind(value) for value in values)
    decimals = "%d" if kind is int else ("%.2f" if step >= 0.01 else "%.5f")
    st.number_input(label, min_value=low, max_value=high, step=step, format=decimals, **shared)


def text_form() -> DataConfig:
    """Chooses the text: built in, from the catalogue, uploaded or pasted."""
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
            content = pasted.encode(errors="replace")
        draw("data", TEXT_FIELDS)
    name = chosen
    if chosen in (UPLOAD, PASTE):
        if not content:
            raise ValueError(f"{chosen} in the sidebar, or choose a built-in text.")
        corpus.read_text(content, "the text", st.session_state[key_of("data", "max_text_mb")])
        name = str(supervisor().keep_upload(content, ".txt"))
    return DataConfig(**(stored("data") | {"data": name}))
