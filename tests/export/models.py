"""Models to export, what they must give, and texts that tokenizers stumble over."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from keras_lm.data.tokenizers import build_tokenizer, tokenizer_from_dict
from keras_lm.export.exporting import Exported, write_export
from keras_lm.model.backend import keras, tf
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import ModelConfig
from keras_lm.settings.formats import FORMATS
from tests.reference import randomize

TEXT = "The man's 12 hats, the cat's 3 mats;\n\n the  hat that he had... ünïcödé 日本 😀\n" * 9
ODD_TEXTS = [
    "",
    TEXT,
    " ",
    "  \n \t x  \n",
    "I'll we've they're 'S 'tis don''t",
    "a\u00a0b\u2003c\u0085d\x1ce\x00f\ufeffg",
    "½ ² ١٢٣ Ⅷ 一二 ǅ ªº é e\u0301 \u0301x",
    "<|endoftext|> hat<|endoftext|>",
    "日本語 😀👩\u200d👩 the man",
    "aaaaaaaaaaaaa hathathathat    ",
    "unbelievable electroencephalographically Ġ Ċ §",
]
LENGTHS = ((1, 1), (2, 2), (1, 7), (3, 8), (2, 17), (1, 64))  # (batch, length)
PROMPT, COUNT = 9, 50
SHAPE = {"context_length": 64, "d_model": 12, "num_heads": 2, "num_blocks": 1, "ffn_dim": 10}
# Every attention, norm, activation and position scheme, and every tokenizer.
VARIANTS: dict[str, dict] = {
    "standard": {
        "activation": "swiglu",
        "qk_norm": True,
        "logit_soft_cap": 3.0,
        "ngram_order": 3,
        "ngram_rows": 3_000,  # room for all pairs, not for all groups of three
        "tokenizer": "char",
    },
    "flash": {
        "attention": "flash",
        "norm": "layernorm",
        "activation": "gelu",
        "positions": "learned",
        "use_bias": True,
        "tie_embeddings": True,
        "tokenizer": "bpe",
    },
    "linear": {
        "attention": "linear",
        "activation": "relu2",
        "qk_norm": True,
        "ngram_order": 2,
        "ngram_rows": 101,
        "tokenizer": "gpt2",
        "separator": "<|endoftext|>",
    },
    "plain": {
        "attention": "linear",
        "norm": "layernorm",
        "activation": "relu",
        "positions": "learned",
        "tokenizer": "char",
        "separator": "|",
    },
}


def make(name: str, text: str = TEXT) -> Exported:
    """The model of a variant, with random weights that say something."""
    changes = dict(VARIANTS[name])
    kind, separator = changes.pop("tokenizer"), changes.pop("separator", "")
    options = {"bpe_size": 300} if kind == "bpe" else {}
    data = build_tokenizer(kind, text, **options).to_dict()
    tokenizer = tokenizer_from_dict(data | ({"separator": separator} if separator else {}))
    sizes = {"vocab_size": tokenizer.vocab_size, "chunk_length": 4, "num_slots": 3}
    config = ModelConfig(**{**SHAPE, **sizes, **changes})
    arrays = randomize(build_model(config, "float32")).get_weights()
    run = {"data": {"data": "a | b\nc"}, "model": config.to_dict()}
    return Exported(config, tokenizer, arrays, "A text", "Step 9: validation 1.23.", run)


def put_export(model: Exported, format: str, folder: Path) -> Path:
    """Writes the export and beside it, as expected.npz and expected.json, what it must give."""
    write_export(model, FORMATS[format], folder, lambda line: None)
    built = build_model(model.config, "float32")
    built.set_weights(model.arrays)
    return expect(model, folder, built)


def expect(model: Exported, folder: Path, built) -> Path:
    """Writes beside an export what it must give: what `built` gives, a function of ids."""
    random = np.random.default_rng(7)
    ids = [random.integers(0, model.config.vocab_size, shape) for shape in LENGTHS]
    ids = [part.astype("int32") for part in ids]
    arrays = {f"ids{i}": part for i, part in enumerate(ids)}
    arrays |= {f"logits{i}": np.asarray(built(part)) for i, part in enumerate(ids)}
    np.savez(folder / "expected.npz", **arrays)
    texts = [text for text in ODD_TEXTS if model.tokenizer.kind != "gpt2" or "Ġ" not in text]
    expected = {
        "prompt": ids[-1][0, :PROMPT].tolist(),
        "continuation": continuation(as_function(built), ids[-1][:, :PROMPT]),
        "texts": texts,
        "ids": [model.tokenizer.encode(text) for text in texts],
        "decoded": [model.tokenizer.decode(model.tokenizer.encode(text)) for text in texts],
    }
    (folder / "expected.json").write_text(json.dumps(expected))
    return folder


def as_function(model):
    """A Keras model, traced once for texts of any length; else what is one already."""
    if not isinstance(model, keras.Model):
        return model
    return tf.function(model, input_signature=[tf.TensorSpec((1, None), tf.int32)])


def continuation(model, ids: np.ndarray) -> list[int]:
    """The likeliest tokens after ids (1, length)."""
    for _ in range(COUNT):
        likeliest = np.argmax(model(ids)[:, -1], axis=-1).astype("int32")
        ids = np.concatenate([ids, likeliest[:, None]], axis=1)
    return ids[0, PROMPT:].tolist()


def run_elsewhere(folders: list[Path]) -> subprocess.CompletedProcess:
    """Checks exports in a process that cannot import keras_lm."""
    script = Path(__file__).with_name("elsewhere.py")
    command = [sys.executable, "-W", "ignore", str(script), *map(str, folders)]
    return subprocess.run(command, cwd=folders[0], capture_output=True, text=True)
