"""A tiny GPT-2 of the `transformers` package, as arrays in `tests/fixtures/gpt2.npz`.

`python -m benchmarks.gpt2 --write` renews them.
"""

from pathlib import Path

import numpy as np

from keras_lm.model.language_model import LanguageModel, build_model
from keras_lm.settings.config import ModelConfig

FIXTURE = Path(__file__).parent / "fixtures" / "gpt2.npz"
SHAPE = {
    "vocab_size": 61,
    "context_length": 67,
    "d_model": 21,
    "num_heads": 3,
    "num_blocks": 2,
    "ffn_dim": 53,
}
PROMPT_LENGTH, NEW_TOKENS = 13, 50


def language_model(weights: dict[str, np.ndarray]) -> LanguageModel:
    """A LanguageModel of SHAPE with the peer's weights."""
    config = ModelConfig(
        **SHAPE,
        norm="layernorm",
        activation="gelu",
        positions="learned",
        use_bias=True,
        tie_embeddings=True,
    )
    model = build_model(config)

    def fill(layer, name: str) -> None:
        suffixes = ("weight", "bias")[: len(layer.weights)]
        layer.set_weights([weights[f"transformer.{name}.{suffix}"] for suffix in suffixes])

    fill(model.embedding, "wte")
    fill(model.position_embedding, "wpe")
    for index, block in enumerate(model.blocks):
        fill(block.attention_norm, f"h.{index}.ln_1")
        fill(block.attention.qkv, f"h.{index}.attn.c_attn")
        fill(block.attention.output_projection, f"h.{index}.attn.c_proj")
        fill(block.feed_forward_norm, f"h.{index}.ln_2")
        fill(block.feed_forward.up, f"h.{index}.mlp.c_fc")
        fill(block.feed_forward.down, f"h.{index}.mlp.c_proj")
    fill(model.final_norm, "ln_f")
    return model


def greedy_ids(model: LanguageModel, prompt: np.ndarray, new_tokens: int) -> np.ndarray:
    """The likeliest token again and again, each by a full pass: (1, prompt) -> (1, all)."""
    ids = prompt
    for _ in range(new_tokens):
        logits = model(ids)[:, -1]
        ids = np.concatenate([ids, np.argmax(logits, axis=-1)[:, None]], axis=1)
    return ids
