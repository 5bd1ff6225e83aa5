"""The activations: what each entry of `keras_lm.settings.variants.ACTIVATIONS` names as its code.

Each takes (..., width * ffn_dim), its entry's width, and returns (..., ffn_dim).
"""

from keras_lm.model.backend import ops


def gelu(x):
    """GELU (https://arxiv.org/abs/1606.08415) in its tanh form, as in GPT-2.

    Example:
        >>> gelu(ops.array([0.0, 9.0])).numpy().tolist()
        [0.0, 9.0]
    """
    return ops.gelu(x, approximate=True)


def relu(x):
    """max(x, 0).

    Example:
        >>> relu(ops.array([-2.0, 3.0])).numpy().tolist()
        [0.0, 3.0]
    """
    return ops.relu(x)


def relu2(x):
    """The square of ReLU (https://arxiv.org/abs/2109.08668).

    Example:
        >>> relu2(ops.array([-2.0, 3.0])).numpy().tolist()
        [0.0, 9.0]
    """
    return ops.square(ops.relu(x))


def swiglu(x):
    """The second half, gated by the first through SiLU (https://arxiv.org/abs/2002.05202).

    Example:
        >>> swiglu(ops.array([0.0, 5.0])).numpy().tolist()  # gate 0: nothing passes
        [0.0]
    """
    gate, x = ops.split(x, 2, axis=-1)  # 2 x (..., ffn_dim)
    return ops.silu(gate) * x
