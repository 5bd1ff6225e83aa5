"""A text in shards as a run uses it: measured on a part of it, never in memory as a whole."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from keras_lm.data.corpus import Corpus, bits_per_byte, check_length, entropy_of_counts
from keras_lm.data.large.making import Report, ShardMaker
from keras_lm.data.large.shards import Shard, Shards
from keras_lm.data.tokenizers import Tokenizer, tokenizer_from_dict
from keras_lm.settings.config import DataConfig

MEASURED_TOKENS = 2**19  # of the validation part that measure the model, at most


@dataclass(frozen=True)
class ShardedCorpus(Corpus):
    """A text that is kept in shards; `train` and `validation` are read where they are needed.

    Attributes:
        context_length: tokens per window.
        manifest: of the shards.
    """

    train: Shards  # pyright: ignore[reportIncompatibleVariableOverride]: as an array, but not one
    validation: Shards  # pyright: ignore[reportIncompatibleVariableOverride]
    context_length: int
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
    def measured(self) -> np.ndarray:
        """The tokens that measure the model: all of the validation part, or windows spread over it.

        Returns:
            (num_tokens,) int32, or (count, context_length + 1) where there are too many.
        """
        if len(self.validation) <= MEASURED_TOKENS:
            return self.validation[:]
        length = self.context_length + 1
        count = max(2, MEASURED_TOKENS // self.context_length)
        starts = np.arange(count) * (len(self.validation) - length) // (count - 1)
        return self.validation.windows(starts, length)

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

    def validation_bits_per_byte(self, loss: float) -> float:
        """A validation loss in nats per token as bits per byte of what was measured."""
        if self.measured.ndim == 1:
            return super().validation_bits_per_byte(loss)
        targets = self.measured[:, 1:]
        return bits_per_byte(loss, self._size(targets.reshape(-1)), targets.size)
