"""The run that the flags of a command describe."""

import argparse

from keras_lm.commands.flags import given
from keras_lm.commands.folders import existing_run, read_config
from keras_lm.data import texts
from keras_lm.keras_file import initial
from keras_lm.keras_file.opening import read_model_file
from keras_lm.settings.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from keras_lm.settings.data_config import TASK_PREFIX
from keras_lm.settings.presets import PRESETS
from keras_lm.storage.run_folder import RunFolder
from keras_lm.system import paths


def new_config(arguments: argparse.Namespace) -> RunConfig:
    """What a new run is made with: the flags over a preset or over another run's config."""
    model, data, training = (
        given(arguments, config) for config in (ModelConfig, DataConfig, TrainingConfig)
    )
    is_task = data.get("data", "").startswith(TASK_PREFIX)
    base = PRESETS[arguments.preset or ("task" if is_task else "quick-start")]
    if arguments.like:
        base = read_config(existing_run(arguments.like, "--like")).with_vocab_size(0)
        if "data" in data:  # another text has another title
            data.setdefault("title", "")
        if base.data.init_from and "init_from" not in data:
            data["init_from"] = initial.file_like(RunFolder(arguments.like), base.data.init_from)
    if init_from := data.get("init_from", base.data.init_from):
        path = paths.absolute(init_from)
        base = initial.settled(base, read_model_file(path), model | data)
        data["init_from"] = str(path)
    return RunConfig(
        base.model.changed(**model),
        texts.with_absolute_path(base.data.changed(**data)),
        base.training.changed(**training),
    )
