"""A run on a text in shards: the losses of one in memory, and no order of windows in memory."""

import dataclasses
import shutil

import numpy as np
import pytest

from keras_lm.data import corpus, preparation
from keras_lm.data.large.sharded_corpus import ShardedCorpus
from keras_lm.data.texts import load_text
from keras_lm.settings.config import DataConfig
from keras_lm.training import fed_steps, loop
from keras_lm.training.fed_steps import FedSteps
from keras_lm.training.windows import Permutation, WindowOrder
from tests.training.small_run import CONFIG, PLAIN, events_of, train


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "text.txt"
    path.write_text(load_text("alice")[:30_000])
    return path


@pytest.fixture(scope="module")
def large(text) -> ShardedCorpus:
    data = DataConfig(str(text), shard_from_mb=0.01)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("KERAS_LM_CACHE", str(text.parent / "cache"))
        found = preparation.prepare(data, CONFIG.model.context_length)
    assert isinstance(found, ShardedCorpus)
    return found


@pytest.fixture
def quick_fed(quick, monkeypatch):
    """Runs on shards go without XLA, too."""
    monkeypatch.setattr(loop, "FedSteps", lambda *values: FedSteps(*values, jit_compile=False))


def with_validation(config):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, eval_every=6))


def test_a_text_in_shards_trains_as_one_in_memory(text, large, tmp_path, monkeypatch, quick_fed):
    config = with_validation(PLAIN)
    in_memory = preparation.prepare(DataConfig(str(text)), CONFIG.model.context_length)
    expected = events_of(train(tmp_path / "memory", in_memory, monkeypatch, config))
    found = events_of(train(tmp_path / "shards", large, monkeypatch, config))
    assert found == expected and any("val_loss" in event for event in found)


def test_a_run_on_shards_goes_on_as_if_it_had_not_stopped(large, tmp_path, monkeypatch, quick_fed):
    monkeypatch.setattr(corpus, "MEASURED_TOKENS", 5 * CONFIG.model.context_length)
    monkeypatch.setattr(fed_steps, "MOST_SHUFFLED", 3)
    fresh = dataclasses.replace(large)  # which has measured nothing yet
    config = with_validation(CONFIG)
    whole = train(tmp_path / "whole", fresh, monkeypatch, config)
    for path in whole.checkpoints.iterdir():
        if path.name != "step-00000005":  # as if it had been killed after that
            shutil.rmtree(path)
    expected = events_of(whole)
    assert events_of(train(tmp_path / "whole", fresh, monkeypatch, config)) == expected
    assert [event["step"] for event in expected if "val_loss" in event] == [6, 12, 13]
    assert fresh.measured.shape == (5, CONFIG.model.context_length + 1)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 255, 1000])
def test_a_permutation_holds_each_number_once(size):
    order = Permutation(size, np.random.default_rng(3))
    assert sorted(order[index] for index in range(size)) == list(range(size))


def test_a_permutation_is_another_for_another_key_and_has_no_pattern():
    size = 4000
    first, second = (
        np.array([order[index] for index in range(size)])
        for order in (Permutation(size, np.random.default_rng(seed)) for seed in (0, 1))
    )
    assert (first != second).mean() > 0.99
    for values in (first, second, first[::2], second[1::2]):
        assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.08
        assert abs(np.corrcoef(values, np.arange(len(values)))[0, 1]) < 0.08


def test_a_computed_order_reads_each_window_of_an_epoch_once():
    order = WindowOrder(211, 7, seed=3, most_shuffled=10)
    assert order.is_computed and not WindowOrder(211, 7, 3, most_shuffled=29).is_computed
    for epoch in range(3):
        count = order.windows_per_epoch
        starts = np.sort(order.offsets(epoch, count))
        assert (np.diff(starts) == 7).all() and starts[0] >= 0 and starts[-1] + 8 <= 211
    np.testing.assert_array_equal(
        WindowOrder(211, 7, 3, most_shuffled=10).offsets(4, 5), order.offsets(4, 5)
    )


def test_the_order_of_billions_of_tokens_takes_no_memory():
    order = WindowOrder(20_000_000_000, 64, seed=1, most_shuffled=fed_steps.MOST_SHUFFLED)
    offsets = order.offsets(10**9, 64)
    assert offsets.dtype == "int64" and offsets.max() > 2**32 and offsets.min() >= 0
    assert offsets.max() + 65 <= 20_000_000_000
    assert len(set(offsets.tolist())) == 64


def test_orders_in_memory_stay_what_they_were():
    order = WindowOrder(5000, 16, seed=7)
    assert order.offsets(0, 5).tolist() == [2726, 1510, 4070, 4790, 4406]
    same = WindowOrder(5000, 16, seed=7, most_shuffled=fed_steps.MOST_SHUFFLED)
    np.testing.assert_array_equal(same.offsets(3, 200), order.offsets(3, 200))
