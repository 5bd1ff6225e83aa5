"""The peers' GPT-2 of a shape, without dropout."""

from typing import Any


def transformers_gpt2(shape: dict[str, int], **changes: Any):
    """That of `transformers`; `changes` are of its config."""
    from transformers import GPT2Config, GPT2LMHeadModel

    settings = {
        "vocab_size": shape["vocab_size"],
        "n_positions": shape["context_length"],
        "n_embd": shape["d_model"],
        "n_head": shape["num_heads"],
        "n_layer": shape["num_blocks"],
        "n_inner": shape["ffn_dim"],
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return GPT2LMHeadModel(GPT2Config(**settings | changes))


def keras_hub_gpt2(shape: dict[str, int]):
    """That of keras-hub, a GPT2CausalLM without a preprocessor."""
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=shape["vocab_size"],
        num_layers=shape["num_blocks"],
        num_heads=shape["num_heads"],
        hidden_dim=shape["d_model"],
        intermediate_dim=shape["ffn_dim"],
        dropout=0.0,
        max_sequence_length=shape["context_length"],
    )
    return keras_hub.models.GPT2CausalLM(backbone)
