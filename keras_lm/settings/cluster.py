"""The processes of a run with several workers, as the environment variable TF_CONFIG names them.

Kubernetes' training operator and Vertex AI set it; with Slurm or by hand a line of shell does.
"""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from keras_lm.settings.checks import ConfigError

VARIABLE = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
ROLES = ("chief", "worker")  # in TensorFlow's order
NOT_TRAINING = ("evaluator",)  # that a cluster may list, too: it is no part of the training


class Cluster(NamedTuple):
    """All processes of a run, and which of them this one is.

    Attributes:
        names: of the processes, such as "worker 1", the chief first.
        addresses: of each, "host:port".
        rank: the index of this process among them; the chief's is 0.

    Example:
        >>> cluster = Cluster.from_environment({"TF_CONFIG": EXAMPLE})
        >>> cluster.names, cluster.rank
        (('worker 0', 'worker 1'), 0)
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    rank: int

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes the run folder."""
        return self.rank == 0

    def describe(self, rank: int) -> str:
        """A process for people, such as "worker 1 (host2:2222)"."""
        return f"{self.names[rank]} ({self.addresses[rank]})"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads TF_CONFIG; ConfigError when it is missing or cannot be what is meant."""
        text = environment.get(VARIABLE, "")
        if not text.strip():
            raise ConfigError(_sentence("it is not set"))
        try:
            value = json.loads(text)
        except ValueError:
            raise ConfigError(_sentence(f"it is no JSON: {text!r:.60}")) from None
        cluster, task = (_part(value, name) for name in ("cluster", "task"))
        if other := [role for role in cluster if role not in ROLES + NOT_TRAINING]:
            raise ConfigError(_sentence(f"its cluster has a {other[0]!r:.30}"))
        addresses = {role: _addresses(role, cluster[role]) for role in ROLES if role in cluster}
        processes = [(role, i) for role in addresses for i in range(len(addresses[role]))]
        every = [address for role in addresses for address in addresses[role]]
        if double := [address for address in every if every.count(address) > 1]:
            raise ConfigError(_sentence(f"{double[0]!r:.60} stands twice in it"))
        if len(addresses.get("chief", ())) > 1:
            raise ConfigError(_sentence("its cluster has more than one chief"))
        own = (str(task.get("type")), _index(task.get("index")))
        if own not in processes:
            raise ConfigError(_sentence(f"its task {json.dumps(task):.60} is not in its cluster"))
        names = tuple(f"{role} {i}" if role == "worker" else role for role, i in processes)
        return cls(names, tuple(every), processes.index(own))


def _sentence(problem: str) -> str:
    return (
        f"The strategy multi-worker needs the environment variable {VARIABLE}, which names all "
        f"workers and this one, but {problem}: set it for example to {EXAMPLE}."
    )


def _part(value: Any, name: str) -> dict[str, Any]:
    part = value.get(name) if isinstance(value, dict) else None
    if not isinstance(part, dict):
        raise ConfigError(_sentence(f"it has no object {name!r}"))
    return part


def _addresses(role: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise ConfigError(_sentence(f"its {role!r} is no list of addresses"))
    for address in value:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ConfigError(_sentence(f"{address!r:.60} in it is no host:port"))
    return value


def _index(value: Any) -> int:
    """The index of a task, which some programs write as a text; -1 when it is none."""
    is_text = isinstance(value, str) and value.isdecimal()
    return int(value) if is_text or type(value) is int else -1
