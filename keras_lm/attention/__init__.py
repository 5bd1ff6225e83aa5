"""Causal multi-head self-attention: one constructor and one call for every variant."""

from keras_lm.attention.base import CausalSelfAttention, rotate
from keras_lm.attention.standard import StandardAttention

ATTENTION_LAYERS = {"standard": StandardAttention}

__all__ = ["ATTENTION_LAYERS", "CausalSelfAttention", "StandardAttention", "rotate"]
