"""A lean GPT in PyTorch to be measured against: fused attention, fused AdamW, nothing else."""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """Pre-norm block of GPT-2: LayerNorm, attention, LayerNorm, feed-forward with GELU (tanh)."""

    def __init__(self, d_model: int, num_heads: int, ffn_dim: int):
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, ffn_dim)
        self.down = nn.Linear(ffn_dim, d_model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, d_model = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.num_heads, -1)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)  # (batch, num_heads, length, head_dim)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, length, d_model))
        inside = functional.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh")
        return x + self.down(inside)


class LeanGPT(nn.Module):
    """GPT-2's architecture: learned positions, tied embeddings.

    Args:
        shape: vocab_size, context_length, d_model, num_heads, num_blocks, ffn_dim.
    """

    def __init__(self, shape: dict[str, int]):
        super().__init__()
        d_model = shape["d_model"]
        self.embedding = nn.Embedding(shape["vocab_size"], d_model)
        self.position_embedding = nn.Embedding(shape["context_length"], d_model)
        self.blocks = nn.ModuleList(
            Block(d_model, shape["num_heads"], shape["ffn_dim"]) for _ in range(shape["num_blocks"])
        )
        self.final_norm = nn.LayerNorm(d_model)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                is_last = name.endswith(("output.weight", "down.weight"))
                scale = (2 * shape["num_blocks"]) ** -0.5 if is_last else 1.0
                nn.init.normal_(weight, std=0.02 * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(batch, length) -> logits (batch, length, vocab_size)."""
        x = self.embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x) @ self.embedding.weight.T


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats: logits (batch, length, vocab_size), targets (batch, length)."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def decay_groups(parameters: list[torch.Tensor], weight_decay: float) -> list[dict]:
    """An optimizer's groups: matrices shrink by `weight_decay`, vectors do not."""
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
