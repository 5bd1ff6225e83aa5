"""A fixed piece of the validation text: how likely the model holds its tokens, sample by sample."""

from dataclasses import dataclass

import numpy as np

from keras_lm.data.corpus import Corpus
from keras_lm.data.task_corpus import TaskCorpus
from keras_lm.generation.inspection import probabilities_of_next
from keras_lm.model.language_model import LanguageModel
from keras_lm.storage.run_folder import RunFolder

MOST_TOKENS = 128  # that are guessed: what the page shows at once


@dataclass(frozen=True)
class HeldOutWindow:
    """The first tokens of the validation text, which are guessed beside every sample.

    Attributes:
        corpus: the run's text.
        ids: (tokens,): one to begin with, and those that are guessed; none where nothing is.
    """

    corpus: Corpus
    ids: np.ndarray

    def write_texts(self, folder: RunFolder) -> None:
        """Writes the tokens' texts, once, as an event at the run's beginning."""
        if len(self.ids):
            texts = [self.corpus.tokenizer.decode([token]) for token in self.ids.tolist()]
            folder.append_event({"kind": "window", "step": 0, "tokens": texts})

    def write_probabilities(self, folder: RunFolder, model: LanguageModel, step: int) -> None:
        """Writes the probability of each token but the first, with three digits, as an event.

        Nothing is written where a weight is not a number.
        """
        if not len(self.ids):
            return
        values = probabilities_of_next(model, self.ids)
        if np.isfinite(values).all():
            kept = [float(f"{value:.3g}") for value in values]
            folder.append_event({"kind": "probabilities", "step": step, "of_next": kept})


def held_out_window(corpus: Corpus, context_length: int) -> HeldOutWindow:
    """The window of a text: as much as the model sees at once, and at most MOST_TOKENS.

    Args:
        corpus: the run's text. Without a validation part nothing is guessed, nor of a task, whose
            questions are random: nobody could.
        context_length: of the model, in tokens.

    Example:
        >>> from keras_lm.data.tokenizers import CharTokenizer
        >>> text = Corpus(CharTokenizer.from_text("ab"), np.zeros(9, "int32"), np.arange(10) % 2, 3)
        >>> held_out_window(text, context_length=3).ids
        array([0, 1, 0, 1])
    """
    length = 0 if isinstance(corpus, TaskCorpus) else min(MOST_TOKENS, context_length) + 1
    return HeldOutWindow(corpus, corpus.validation[:length])
