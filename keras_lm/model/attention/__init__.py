"""Causal multi-head self-attention: one constructor and one call for every variant."""

from keras_lm.model.attention.base import CausalSelfAttention, rotate
from keras_lm.model.attention.flash import FlashAttention
from keras_lm.model.attention.linear import LinearAttention
from keras_lm.model.attention.standard import StandardAttention

ATTENTION_LAYERS = {
    "standard": StandardAttention,
    "linear": LinearAttention,
    "flash": FlashAttention,
}

__all__ = [
    "ATTENTION_LAYERS",
    "CausalSelfAttention",
    "FlashAttention",
    "LinearAttention",
    "StandardAttention",
    "rotate",
]
