"""The text that a model learned first, while it learns another: how much of it is forgotten."""

from typing import NamedTuple

from keras_lm.data.corpus import Corpus, text_of_model
from keras_lm.data.texts import TEXTS
from keras_lm.settings.config import RunConfig
from keras_lm.storage.files import read_json
from keras_lm.training.progress import Run

BEFORE = "Before the first step, the first text ({title}) has {bits:.4f} bits per byte."
NOT_MEASURED = "How much the model forgets of its first text is not measured: {reason}."


class FirstText(NamedTuple):
    """What is left of the first text.

    Attributes:
        corpus: the text in the run's tokens; None: what the model forgets is not measured.
        words: the text's title; why it is not measured.
    """

    corpus: Corpus | None
    words: str

    @property
    def num_tokens(self) -> int:
        """How many there are to validate."""
        return self.corpus.measured.size if self.corpus else 0


def first_text(run: Run) -> FirstText:
    """The validation part of what the run's initial model was trained on.

    It is measured where the copied config of that model's run names a text that can be read and
    that the run's tokenizer can write without a further token.
    """
    try:
        config = RunConfig.from_dict(read_json(run.folder.initial_config))
    except ValueError:
        return FirstText(None, "no config of the run that made the model is beside it")
    data, length = config.data, run.config.model.context_length
    corpus, reason = text_of_model(data, length, run.corpus.tokenizer)
    if corpus is None:
        return FirstText(None, reason)
    if not len(corpus.validation):
        return FirstText(None, f"all of {data.label} was trained on")
    return FirstText(corpus, TEXTS[data.data].title if data.data in TEXTS else data.label)
