"""The model of this folder in NumPy: token ids (batch, length) to logits."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
CONFIG = json.loads((FOLDER / "config.json").read_text("utf-8"))
HEADS, HEAD_DIM = CONFIG["num_heads"], CONFIG["d_model"] // CONFIG["num_heads"]
NORM_EPSILON, QK_EPSILON = 1e-5, 1e-7
MASKED, EMPTY, GATE_SPEED = -1e9, 1e-20, 8.0
HASH = 1_000_003


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 arrays of a file by their names."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        values = np.frombuffer(content[begin + first : begin + last], "<f4")
        arrays[name] = values.reshape(entry["shape"])
    return arrays


WEIGHTS = read_safetensors(FOLDER / "model.safetensors")


def softmax(x):
    """Over the last axis."""
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def silu(x):
    """x times its logistic function."""
    with np.errstate(over="ignore"):
        return x / (1 + np.exp(-x))


def gelu(x):
    """GELU in its tanh form."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def swiglu(x):
    """The second half, gated by the first."""
    gate, x = np.split(x, 2, axis=-1)
    return silu(gate) * x


ACTIVATIONS = {
    "gelu": gelu,
    "swiglu": swiglu,
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
}


def linear(x, layer):
    """A matrix, and a bias if the layer has one."""
    return x @ WEIGHTS[f"{layer}.weight"] + WEIGHTS.get(f"{layer}.bias", np.float32(0))


def rms(x, epsilon):
    """x divided by the root of its mean square."""
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + epsilon)


def norm(x, layer):
    """LayerNorm is RMSNorm of what has the mean 0."""
    if CONFIG["norm"] == "layernorm":
        x = x - x.mean(-1, keepdims=True)
    bias = WEIGHTS.get(f"{layer}.bias", np.float32(0))
    return rms(x, NORM_EPSILON) * WEIGHTS[f"{layer}.weight"] + bias


def turn(x):
    """Queries or keys (..., length, head_dim), turned by their positions."""
    if CONFIG["positions"] != "rotary":
        return x
    half = HEAD_DIM // 2
    frequencies = 10_000.0 ** (-np.arange(half, dtype="float32") / half)
    angles = np.arange(x.shape[-2], dtype="float32")[:, None] * frequencies
    cos, sin = np.cos(angles), np.sin(angles)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def attention(x, layer):
    """(batch, length, d_model) to the same."""
    batch, length, width = x.shape
    qkv = linear(x, f"{layer}.qkv").reshape(batch, length, 3, HEADS, HEAD_DIM)
    queries, keys, values = qkv.transpose(2, 0, 3, 1, 4)  # each (batch, heads, length, head_dim)
    if CONFIG["qk_norm"]:
        queries, keys = rms(queries, QK_EPSILON), rms(keys, QK_EPSILON)
    queries = queries * np.float32(HEAD_DIM**-0.5)
    if CONFIG["attention"] == "linear" and length > 2 * CONFIG["chunk_length"]:
        mixed = window_and_slots(x, queries, keys, values, f"{layer}.slots")
    else:
        scores = turn(queries) @ turn(keys).swapaxes(2, 3)
        mixed = softmax(np.where(np.tri(length, dtype=bool), scores, MASKED)) @ values
    return linear(mixed.transpose(0, 2, 1, 3).reshape(batch, length, width), f"{layer}.output")


def window_and_slots(x, queries, keys, values, layer):
    """Linear attention: the last two chunks exactly, and what is older as means in slots."""
    chunk, length = CONFIG["chunk_length"], x.shape[1]
    gate = GATE_SPEED * WEIGHTS[f"{layer}.gate"].reshape(HEADS, -1)
    decay = np.exp(-np.exp(WEIGHTS[f"{layer}.log_rate"].reshape(HEADS, -1, 1)))
    shares = x @ WEIGHTS[f"{layer}.weight"]
    shares = softmax(shares.reshape(*x.shape[:2], HEADS, -1)).transpose(0, 2, 3, 1)
    tokens = np.concatenate([keys, values, np.ones_like(keys[..., :1])], -1)
    turned_queries, turned_keys = turn(queries), turn(keys)
    sums = np.zeros((*shares.shape[:3], tokens.shape[-1]), "float32")  # (batch, heads, slots, ...)
    mixed = np.empty_like(values)
    for start in range(0, length, chunk):
        if start >= 2 * chunk:
            old = slice(start - 2 * chunk, start - chunk)
            sums = decay * sums + shares[..., old] @ tokens[:, :, old]
        rows, seen = slice(start, start + chunk), slice(max(0, start - chunk), start + chunk)
        written = sums[..., -1] > EMPTY
        counts = np.where(written, sums[..., -1], 1)
        means = sums[..., :-1] / counts[..., None]
        bias = np.where(written, np.log(counts) + gate, MASKED)[:, :, None]
        of_slots = queries[:, :, rows] @ means[..., :HEAD_DIM].swapaxes(2, 3) + bias
        of_window = turned_queries[:, :, rows] @ turned_keys[:, :, seen].swapaxes(2, 3)
        allowed = np.arange(length)[seen] <= np.arange(length)[rows][:, None]
        scores = np.concatenate([of_slots, np.where(allowed, of_window, MASKED)], -1)
        weights, slots = softmax(scores), of_slots.shape[-1]
        mixed[:, :, rows] = weights[..., :slots] @ means[..., HEAD_DIM:]
        mixed[:, :, rows] += weights[..., slots:] @ values[:, :, seen]
    return mixed


def ngrams(ids):
    """What is known of the last two tokens together, and of the last three."""
    order, num_symbols = CONFIG["ngram_order"], CONFIG["vocab_size"] + 1
    tokens = np.pad(ids.astype("int64") + 1, ((0, 0), (order - 1, 0)))  # 0 before the text
    found = np.float32(0)
    for size in range(2, order + 1):
        table, rows = WEIGHTS[f"ngrams_{size}.weight"], 0
        factor = num_symbols if len(table) == num_symbols**size else HASH
        for first in range(order - size, order):
            rows = (rows * factor + tokens[:, first : first + ids.shape[1]]) % len(table)
        found = found + table[rows]
    return found


def logits(ids):
    """Token ids (batch, length) to logits (batch, length, vocab_size)."""
    x = WEIGHTS["embedding.weight"][ids] + ngrams(ids)
    if CONFIG["positions"] == "learned":
        x = x + WEIGHTS["position_embedding.weight"][: ids.shape[1]]
    activate = ACTIVATIONS[CONFIG["activation"]]
    for block in (f"block_{index}" for index in range(CONFIG["num_blocks"])):
        x = x + attention(norm(x, f"{block}.attention_norm"), f"{block}.attention")
        inside = activate(linear(norm(x, f"{block}.feed_forward_norm"), f"{block}.up"))
        x = x + linear(inside, f"{block}.down")
    x, output = norm(x, "final_norm"), WEIGHTS.get("output.weight")
    scores = x @ (WEIGHTS["embedding.weight"].T if output is None else output)
    cap = CONFIG["logit_soft_cap"]
    return cap * np.tanh(scores / cap) if cap else scores
