"""What a run learns from: a text or a task, as its config names it."""

from collections.abc import Callable

from keras_lm.data import corpus
from keras_lm.data.corpus import Corpus
from keras_lm.data.large.sharded_corpus import ShardedCorpus
from keras_lm.data.large.streams import is_large
from keras_lm.data.task_corpus import TaskCorpus
from keras_lm.data.tokenizers import Tokenizer
from keras_lm.settings.config import DataConfig


def prepare(
    data: DataConfig,
    context_length: int,
    source: bytes | None = None,
    known: Tokenizer | None = None,
    report: Callable[[str], None] = lambda sentence: None,
) -> Corpus:
    """The text or the task as tokens.

    Args:
        data: which, and how.
        context_length: tokens that the model sees at once; each part of a text needs one more.
        source: the text's bytes when they have been read from standard input.
        known: the tokenizer of the model that the run goes on with; None: there is none.
        report: called with a sentence now and then, where it takes long.

    Raises ValueError (TextError, TokenizerError) with one sentence when it cannot be used.

    Example:
        >>> prepare(DataConfig("task:sort"), context_length=17).first_words[-1]
        '='
    """
    if data.task:
        return TaskCorpus.of(data)
    if source is None and is_large(data):
        return ShardedCorpus.of(data, context_length, known, report)
    return corpus.prepare(data, context_length, source, known)


def training_text(data: DataConfig) -> str:
    """The text, cleaned; of a task, which is endless, some instances."""
    if data.task:
        found = TaskCorpus.of(data)
        return found.tokenizer.decode(found.train.tolist())
    return corpus.cleaned_text(data)
