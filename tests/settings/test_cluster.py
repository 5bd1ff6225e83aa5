"""TF_CONFIG: what Kubernetes' training operator, Vertex AI and people write, and what is wrong."""

import json

import pytest

from keras_lm.settings.checks import ConfigError
from keras_lm.settings.cluster import Cluster

HOSTS = ["a:1", "b:2"]


def cluster_of(cluster, task, **more) -> Cluster:
    text = json.dumps({"cluster": cluster, "task": task, **more})
    return Cluster.from_environment({"TF_CONFIG": text})


def test_worker_0_is_the_chief_where_no_other_is_named():
    first = cluster_of({"worker": HOSTS}, {"type": "worker", "index": 0})
    second = cluster_of({"worker": HOSTS}, {"type": "worker", "index": 1})
    assert (first.is_chief, second.is_chief) == (True, False)
    assert (second.names, second.addresses) == (("worker 0", "worker 1"), ("a:1", "b:2"))


def test_a_chief_comes_before_all_workers():
    """As Kubernetes' operator and Vertex write it, with an evaluator and an index as a text."""
    spec = {"worker": HOSTS, "chief": ["c:3"], "evaluator": ["e:4"]}
    found = cluster_of(spec, {"type": "worker", "index": "1"}, environment="cloud")
    assert found.names == ("chief", "worker 0", "worker 1")
    assert found.addresses == ("c:3", "a:1", "b:2")
    assert (found.rank, found.is_chief) == (2, False)
    assert found.describe(0) == "chief (c:3)"
    assert cluster_of(spec, {"type": "chief", "index": 0}).is_chief


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "it is not set"),
        ("{", "it is no JSON"),
        ("[]", "no object 'cluster'"),
        ('{"cluster": {"worker": ["a:1"]}}', "no object 'task'"),
        ('{"cluster": {"ps": ["a:1"]}, "task": {}}', "its cluster has a 'ps'"),
        ('{"cluster": {"worker": "a:1"}, "task": {}}', "no list of addresses"),
        ('{"cluster": {"worker": ["a"]}, "task": {}}', "'a' in it is no host:port"),
        ('{"cluster": {"worker": ["a:65536"]}, "task": {}}', "is no host:port"),
        ('{"cluster": {"worker": ["a:1", 2]}, "task": {}}', "is no host:port"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {}}', "'a:1' stands twice"),
        ('{"cluster": {"chief": ["a:1", "b:1"]}, "task": {}}', "more than one chief"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', "not in its cluster"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "not in its cluster",
        ),
        (
            '{"cluster": {"worker": ["a:1"], "evaluator": ["b:1"]}, '
            '"task": {"type": "evaluator", "index": 0}}',
            "not in its cluster",
        ),
    ],
    ids=lambda value: value[:60] if "{" not in value else "",
)
def test_what_is_wrong_is_one_sentence(text, problem):
    with pytest.raises(ConfigError) as caught:
        Cluster.from_environment({"TF_CONFIG": text})
    message = str(caught.value)
    assert problem in message and message.count("\n") == 0
    assert message.endswith('"task": {"type": "worker", "index": 0}}.')
