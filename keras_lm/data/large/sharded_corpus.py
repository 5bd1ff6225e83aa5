"""A text in shards as a run uses it: measured on a part of it, never in memory as a whole."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from keras_lm.data.corpus import Corpus, check_length, entropy_of_counts
from keras_lm.data.large.making import Report, ShardMaker
from keras_lm.data.large.shards import Shard, Shards
from keras_lm.data.tokenizers import Tokenizer, tokenizer_from_dict
from keras_lm.settings.config import DataConfig


@dataclass(frozen=True)
class ShardedCorpus(Corpus):
    """A text that is kept in shards; `train` and `validation` are read where they are needed.

    Attributes:
        manifest: of the shards.
    """

    train: Shards  # pyright: ignore[reportIncompatibleVariableOverride]: as an array, but not one
    validation: Shards  # pyright: ignore[reportIncompatibleVariableOverride]
    manifest: dict[str, Any]

    @classmethod
    def of(
        cls, data: DataConfig, context_length: int, known: Tokenizer | None, report: Report
    ) -> Self:
        """The text as tokens, made now unless it was before; arguments and errors as `prepare`."""
        maker = ShardMaker(data, known, report)
        manifest = maker.manifest()
        rows = np.array(manifest["rows"])
        train, validation = (
            Shards(maker.folder, [Shard(*s) for s in manifest[part]], manifest["dtype"], rows)
            for part in ("train", "validation")
        )
        tokenizer = tokenizer_from_dict(manifest["tokenizer"])
        fraction = data.validation_fraction
        check_length(train, validation, context_length, fraction, tokenizer.unit)
        return cls(tokenizer, train, validation, context_length, manifest)

    @cached_property
    def unigram_entropy(self) -> float:
        """Nats per token of a guess by frequency alone, in the whole validation part."""
        return entropy_of_counts(np.array(self.manifest["counts"]))

    @cached_property
    def sha256(self) -> str:
        """Of the tokens, their split and the tokenizer: another one is another task."""
        parts = [self.manifest[part] for part in ("train", "validation")]
        content = [self.tokenizer.to_dict(), self.manifest["dtype"], parts]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def train_bytes(self) -> int:
        """Size of the text that is trained on."""
        return self.manifest["train_bytes"]

    @property
    def validation_bytes(self) -> int:
        """Size of the text that validates."""
        return self.manifest["validation_bytes"]
