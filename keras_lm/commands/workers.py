"""Runs that several processes train together: which of them this one is."""

import argparse

from keras_lm.commands.folders import existing_run, read_config
from keras_lm.data.texts import SEVERAL, STDIN
from keras_lm.settings.cluster import Cluster
from keras_lm.settings.config import ConfigError, RunConfig
from keras_lm.settings.training_config import MULTI_WORKER


def asks_for_workers(arguments: argparse.Namespace) -> bool:
    """Whether the run that the flags describe is one of several workers."""
    if arguments.like and "strategy" not in arguments:
        return read_config(existing_run(arguments.like, "--like")).training.strategy == MULTI_WORKER
    return getattr(arguments, "strategy", "") == MULTI_WORKER


def follows(config: RunConfig) -> bool:
    """Whether another process than this one is the run's chief, which decides and writes.

    Raises:
        ConfigError: when TF_CONFIG does not name the processes, or they cannot share this run.
    """
    if config.training.strategy != MULTI_WORKER:
        return False
    cluster = Cluster.from_environment()
    if STDIN in config.data.data.split(SEVERAL):
        raise ConfigError(
            "Several workers cannot read one standard input, but --data is -: name a file that "
            "each of them has."
        )
    batch_size, workers = config.training.batch_size, len(cluster.names)
    if batch_size % workers:
        raise ConfigError(
            f"batch_size must be a multiple of the number of workers, but got {batch_size} for "
            f"{workers}: choose for example {-(-batch_size // workers) * workers}."
        )
    return not cluster.is_chief
