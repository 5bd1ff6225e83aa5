"""keras_lm: a laboratory for small language models.

Names are imported when they are first used, so `import keras_lm` is quick and free of TensorFlow.
"""

import importlib
from typing import Any

_HOMES = {
    "BpeTokenizer": "data.tokenizers",
    "Bundle": "generation.bundle",
    "CharTokenizer": "data.tokenizers",
    "ConfigError": "settings.config",
    "DataConfig": "settings.config",
    "FlashAttention": "model.attention",
    "GenerationConfig": "settings.config",
    "Gpt2Tokenizer": "data.tokenizers",
    "LanguageModel": "model.language_model",
    "LinearAttention": "model.attention",
    "ModelConfig": "settings.config",
    "ModelFileError": "keras_file.opening",
    "RunConfig": "settings.config",
    "StandardAttention": "model.attention",
    "TrainingConfig": "settings.config",
    "build_model": "model.language_model",
    "generate": "generation.bundle",
    "load": "generation.bundle",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"keras_lm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
