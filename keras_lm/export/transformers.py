"""A folder for Hugging Face transformers, where one of its architectures is exactly this model."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from keras_lm.export.exported import Exported, check_is_plain
from keras_lm.export.safetensors import write_safetensors
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.config import ModelConfig

Arrays = dict[str, np.ndarray]
NORM_EPSILON = 1e-5
# Ours divides heads by their norm with an epsilon of 1e-7, Qwen3 with that of its norms. Queries
# and keys that are this much larger before that division make up for it.
QWEN3_SCALE = (NORM_EPSILON / 1e-7) ** 0.5
ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "relu2": "relu2"}
CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "arcee": "ArceeForCausalLM",
}
ADVICE = "choose another format, such as safetensors or onnx."

LOADER = '''"""The model of this folder in transformers: token ids (batch, length) to logits."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

MODEL = AutoModelForCausalLM.from_pretrained(str(Path(__file__).parent))


def logits(ids):
    """Token ids (batch, length) to logits (batch, length, vocab_size)."""
    with torch.no_grad():
        return MODEL(torch.tensor(ids)).logits.numpy()
'''


def write(model: Exported, folder: Path) -> None:
    """Writes the weights and settings under transformers' names; ConfigError where none fit."""
    architecture = architecture_of(model.config)
    convert = _gpt2 if architecture == "gpt2" else _llama
    settings, arrays = convert(model.config, model.named_arrays())
    if not model.config.tie_embeddings:
        arrays["lm_head.weight"] = model.named_arrays()["output.weight"].T
    stop = model.tokenizer.stop
    settings |= {
        "title": model.title,
        "context_length": model.config.context_length,
        "stop": stop,
        "model_type": architecture,
        "architectures": [CLASSES[architecture]],
        "vocab_size": model.config.vocab_size,
        "tie_word_embeddings": model.config.tie_embeddings,
        "bos_token_id": stop,
        "eos_token_id": stop,
        "torch_dtype": "float32",
    }
    words = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.config.context_length,
        "clean_up_tokenization_spaces": False,
    }
    for name, values in (("config.json", settings), ("tokenizer_config.json", words)):
        (folder / name).write_text(json.dumps(values, indent=2), "utf-8")
    write_safetensors(folder / "model.safetensors", arrays)
    (folder / "forward.py").write_text(LOADER, "utf-8")


def architecture_of(config: ModelConfig) -> str:
    """The model_type that computes exactly what the model does; ConfigError when none does.

    Example:
        >>> architecture_of(ModelConfig(vocab_size=5)), architecture_of(ModelConfig(qk_norm=True))
        ('llama', 'qwen3')
    """
    check_is_plain(config, "The format transformers")
    if config.attention == "linear":
        raise ConfigError(f"Transformers has no attention like linear: {ADVICE}")
    if config.ngram_order > 1:
        raise ConfigError(
            f"Transformers embeds each token alone, but this model has ngram_order "
            f"{config.ngram_order}: {ADVICE}"
        )
    if config.logit_soft_cap:
        raise ConfigError(
            f"Transformers has GPT-2 and Llama without a soft cap of the logits, but this model "
            f"has logit_soft_cap {config.logit_soft_cap:g}: {ADVICE}"
        )
    kind = (config.norm, config.positions)
    is_gated, has_qk_norm = config.activation == "swiglu", config.qk_norm
    if kind == ("layernorm", "learned") and not is_gated and not has_qk_norm:
        return "gpt2"
    if kind == ("rmsnorm", "rotary"):
        if not has_qk_norm:
            return "llama" if is_gated else "arcee"
        if is_gated and not config.use_bias:
            return "qwen3"
    parts = [config.norm, config.positions, config.activation]
    parts += ["qk_norm"] * has_qk_norm + ["biases"] * config.use_bias
    raise ConfigError(
        "Transformers needs LayerNorm with learned positions (GPT-2), or RMSNorm with rotary "
        f"positions (Llama; Qwen3 with QK-norm, SwiGLU and no biases), but this model has "
        f"{', '.join(parts)}: {ADVICE}"
    )


def _gpt2(config: ModelConfig, ours: Arrays) -> tuple[dict[str, Any], Arrays]:
    layers = {"final_norm": "transformer.ln_f"}
    for index in range(config.num_blocks):
        block, theirs = f"block_{index}", f"transformer.h.{index}"
        layers |= {
            f"{block}.attention_norm": f"{theirs}.ln_1",
            f"{block}.attention.qkv": f"{theirs}.attn.c_attn",
            f"{block}.attention.output": f"{theirs}.attn.c_proj",
            f"{block}.feed_forward_norm": f"{theirs}.ln_2",
            f"{block}.up": f"{theirs}.mlp.c_fc",
            f"{block}.down": f"{theirs}.mlp.c_proj",
        }
    arrays = {
        "transformer.wte.weight": ours["embedding.weight"],
        "transformer.wpe.weight": ours["position_embedding.weight"],
    }
    for name, other in layers.items():
        weight = ours[f"{name}.weight"]  # (inputs, outputs), as GPT-2's own are
        arrays[f"{other}.weight"] = weight
        arrays[f"{other}.bias"] = ours.get(f"{name}.bias", np.zeros(weight.shape[-1], "f4"))
    settings = {
        "n_positions": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.num_blocks,
        "n_head": config.num_heads,
        "n_inner": config.ffn_dim,
        "activation_function": ACTIVATIONS[config.activation],
        "layer_norm_epsilon": NORM_EPSILON,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    }
    return settings, arrays


def _llama(config: ModelConfig, ours: Arrays) -> tuple[dict[str, Any], Arrays]:
    arrays = {
        "model.embed_tokens.weight": ours["embedding.weight"],
        "model.norm.weight": ours["final_norm.weight"],
    }
    scale = QWEN3_SCALE if config.qk_norm else 1.0
    for index in range(config.num_blocks):
        block, theirs = f"block_{index}", f"model.layers.{index}"
        arrays[f"{theirs}.input_layernorm.weight"] = ours[f"{block}.attention_norm.weight"]
        arrays[f"{theirs}.post_attention_layernorm.weight"] = ours[
            f"{block}.feed_forward_norm.weight"
        ]
        # Each of theirs, with which of ours it is a part of, how many parts that has, and a factor.
        parts = {
            "self_attn.q_proj": ("attention.qkv", 0, 3, scale),
            "self_attn.k_proj": ("attention.qkv", 1, 3, scale),
            "self_attn.v_proj": ("attention.qkv", 2, 3, 1.0),
            "self_attn.o_proj": ("attention.output", 0, 1, 1.0),
            "mlp.down_proj": ("down", 0, 1, 1.0),
        }
        if config.activation == "swiglu":
            parts |= {"mlp.gate_proj": ("up", 0, 2, 1.0), "mlp.up_proj": ("up", 1, 2, 1.0)}
        else:
            parts["mlp.up_proj"] = ("up", 0, 1, 1.0)
        for other, (name, part, count, factor) in parts.items():
            for kind in ("weight", "bias"):
                if (array := ours.get(f"{block}.{name}.{kind}")) is not None:
                    cut = np.split(array, count, axis=-1)[part]
                    arrays[f"{theirs}.{other}.{kind}"] = np.float32(factor) * cut.T
        if config.qk_norm:
            for name in ("q_norm", "k_norm"):
                arrays[f"{theirs}.self_attn.{name}.weight"] = np.ones(config.head_dim, "f4")
    settings = {
        "hidden_size": config.d_model,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.num_blocks,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu" if config.activation == "swiglu" else ACTIVATIONS[config.activation],
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": 10_000.0,
        "attention_bias": config.use_bias,
        "mlp_bias": config.use_bias,
    }
    return settings, arrays
