"""What a run learns from, made ready by the process that trains it."""

import sys

from keras_lm.data import preparation, texts, tokenizers
from keras_lm.data.corpus import Corpus
from keras_lm.data.reading import MEGABYTE
from keras_lm.keras_file import initial
from keras_lm.keras_file.opening import read_model_file
from keras_lm.settings import estimates
from keras_lm.settings.config import ConfigError, RunConfig
from keras_lm.settings.data_config import LARGEST_IN_MEMORY
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system.terminal import report_progress, say


def with_standard_input(config: RunConfig, folder: RunFolder) -> tuple[RunConfig, bytes | None]:
    """The config with the run's own copy of the text, and that text, where it is typed or piped.

    Any other config as it is, and None. ConfigError when nothing can be read.
    """
    names = config.data.data.split(texts.SEVERAL)
    if texts.STDIN not in names:
        return config, None
    if names[1:]:
        raise ConfigError("--data - must stand alone, but got other texts beside it.")
    if sys.stdin is None:  # it was closed
        raise ConfigError("--data - needs a text on standard input, but that is closed.")
    # It is read into memory, so a larger one is refused, and the run keeps to that.
    in_memory = config.data.changed(
        shard_from_mb=LARGEST_IN_MEMORY, max_text_mb=min(config.data.max_text_mb, LARGEST_IN_MEMORY)
    )
    source = sys.stdin.buffer.read(int(in_memory.max_text_mb * MEGABYTE) + 1)
    config = RunConfig(config.model, in_memory, config.training)
    return config.with_data(str(folder.text_file.absolute()), "standard input"), source


def prepare(
    config: RunConfig,
    source: bytes | None = None,
    folder: RunFolder | None = None,
    is_chief: bool = True,
) -> Corpus:
    """The run's text as tokens; ValueError if the text cannot be used or memory is too small.

    Args:
        config: of the run.
        source: the text's bytes when they have been read from standard input.
        folder: the run's, once there is one: its status says how far it is, where that takes long,
            and a request to end is a KeyboardInterrupt.
        is_chief: whether this process may write into the folder.
    """
    file = initial.initial_file(config, folder)
    config.training.check_installed()
    content = read_model_file(file) if file else None
    known = tokenizers.tokenizer_from_dict(content.tokenizer) if content else None

    def report(sentence: str) -> None:
        (report_progress if sentence.endswith("left.") else say)(sentence)
        if folder and is_chief:
            folder.write_status(reading=sentence)
            if folder.take_request() in ("stop", "pause"):
                raise KeyboardInterrupt

    length = config.model.context_length
    prepared = preparation.prepare(config.data, length, source, known, report)
    if folder and is_chief and folder.read_status().get("reading"):
        folder.write_status(reading="")
    sized = config.with_vocab_size(prepared.tokenizer.vocab_size)
    if content:
        initial.check_shape(content.config, sized.model)
    estimates.check_memory(sized)
    for warning in config.warnings():
        say(warning)
    return prepared
