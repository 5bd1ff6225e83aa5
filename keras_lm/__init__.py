"""keras_lm: a laboratory for small language models.

Names are imported when they are first used, so `import keras_lm` is quick and free of TensorFlow.
"""

import importlib
from typing import Any

_HOMES = {
    "Bundle": "bundle",
    "CharTokenizer": "tokenizer",
    "ConfigError": "config",
    "DataConfig": "config",
    "FlashAttention": "attention",
    "GenerationConfig": "config",
    "Gpt2Tokenizer": "tokenizer",
    "LanguageModel": "model",
    "LinearAttention": "attention",
    "ModelConfig": "config",
    "ModelFileError": "model_file",
    "RunConfig": "config",
    "StandardAttention": "attention",
    "TrainingConfig": "config",
    "build_model": "model",
    "generate": "generation",
    "load": "bundle",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"keras_lm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
