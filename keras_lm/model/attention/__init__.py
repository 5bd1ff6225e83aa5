"""Causal multi-head self-attention: one constructor and one call for every variant."""

from keras_lm.model.attention.base import CausalSelfAttention, rotate
from keras_lm.model.attention.flash import FlashAttention
from keras_lm.model.attention.linear import LinearAttention
from keras_lm.model.attention.standard import StandardAttention

__all__ = [
    "CausalSelfAttention",
    "FlashAttention",
    "LinearAttention",
    "StandardAttention",
    "rotate",
]
