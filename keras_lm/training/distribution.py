"""The group of replicas that train one model together, through TensorFlow's `tf.distribute`.

A replica is a device with its own copy of the model and its own share of each batch: a GPU of this
machine, or one of another process's. Only one replica, the first of the chief, decides what is done
next; the processes of the others wait for its orders. So nothing that depends on a clock or on a
person can make the processes differ.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_lm.model.backend import tf
from keras_lm.model.tracing import traced
from keras_lm.settings.checks import ConfigError
from keras_lm.settings.cluster import Cluster
from keras_lm.system.signals import ending_at_once
from keras_lm.system.terminal import say
from keras_lm.training.rendezvous import WorkerLost, wait_for_all

ORDER_BYTES = 2048
TASK = re.compile(r"/job:(chief|worker)/(?:replica:0/)?task:([0-9]+)")
LOST_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)
LOST = (
    "The connection to {worker} was lost: start all workers again with the command "
    "resume, and the run goes on from its newest checkpoint."
)
WAITING = "Waiting until all are there: {workers}."
NOT_THE_SAME = (
    "All workers must train the same, but {worker} has other settings or another text than the "
    "chief: start the same command on each."
)
INDIVISIBLE = (
    "batch_size must be a multiple of the number of replicas, but got {batch_size} for {size}: "
    "choose for example {better}."
)

_joined: list["Group"] = []


class Group:
    """The replicas of a run, as one of its processes sees them.

    Args:
        strategy: of TensorFlow.
        cluster: the processes; None: there is only this one.

    Attributes:
        size: replicas in all processes.
        devices: those of this process, one per replica.
        first: the number of its first replica.
        is_chief: whether this process decides and writes.
        is_broken: whether the processes no longer do the same, so that none waits for an order.
    """

    def __init__(self, strategy: Any, cluster: Cluster | None = None):
        self._strategy, self._cluster = strategy, cluster
        self.size: int = strategy.num_replicas_in_sync
        self.devices: list[str] = [*strategy.extended.worker_devices]
        self.first = cluster.rank * len(self.devices) if cluster else 0
        self.is_chief = cluster is None or cluster.is_chief
        self.is_broken = False
        self._sum = self.compiled(lambda _, vector: self.sum(vector))

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A program that calls `function` for each replica of this process.

        Args:
            function: of the replica's index in this process, and of its tensors.

        Returns:
            A function of what `values` gives; it returns the first replica's result as an array.
        """

        def for_each(*arguments):
            context = tf.distribute.get_replica_context()
            number = int(tf.get_static_value(context.replica_id_in_sync_group))
            return function(number - self.first, *arguments)

        program = traced(lambda *arguments: self._strategy.run(for_each, arguments))

        def run(*arguments) -> np.ndarray:
            with self._noticing_loss():
                results = program(*arguments)
                return self._strategy.experimental_local_results(results)[0].numpy()

        return run

    def values(self, of_replica: Callable[[int], np.ndarray]) -> Any:
        """What each replica of this process gets, by its number in the group."""
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(of_replica(context.replica_id_in_sync_group))
        )

    def sum(self, vector: tf.Tensor) -> tf.Tensor:
        """The sum of all replicas' vectors, within a function that `compiled` was given."""
        context = tf.distribute.get_replica_context()
        # An argument of a program has no device yet, which the reduction asks for.
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(vector))

    def from_chief(self, vector: np.ndarray) -> np.ndarray:
        """The chief's vector of float32; those that other processes give only have its length."""
        zeros = np.zeros_like(vector)
        return self._sum(self.values(lambda number: zeros if number else vector))

    def order(self, do: str, **what: Any) -> None:
        """The chief's: says to all other processes what all do next."""
        if self._cluster is None:
            return
        words = json.dumps({"do": do, **what}).encode()
        codes = np.zeros(ORDER_BYTES, "float32")
        codes[: len(words)] = np.frombuffer(words, "uint8")
        self.from_chief(codes)

    def next_order(self) -> dict[str, Any]:
        """Of all other processes: waits for what the chief says."""
        codes = self.from_chief(np.zeros(ORDER_BYTES, "float32"))
        return json.loads(codes.astype("uint8").tobytes().rstrip(b"\0"))

    def check_same(self, fingerprint: str, of_chief: str) -> None:
        """ConfigError in all processes when one of them differs from the chief."""
        differs = np.zeros(self.size, "float32")
        differs[self.first] = fingerprint != of_chief
        others = np.zeros_like(differs)
        differing = self._sum(self.values(lambda n: differs if n == self.first else others))
        if self._cluster and differing.any():
            rank = int(np.argmax(differing)) // len(self.devices)
            raise ConfigError(NOT_THE_SAME.format(worker=self._cluster.describe(rank)))

    def share_of(self, batch_size: int) -> int:
        """How many of a batch's windows one replica gets; ConfigError when that is no number."""
        if batch_size % self.size:
            better = -(-batch_size // self.size) * self.size
            raise ConfigError(
                INDIVISIBLE.format(batch_size=batch_size, size=self.size, better=better)
            )
        return batch_size // self.size

    @contextlib.contextmanager
    def doing_together(self) -> Iterator[None]:
        """What the chief does within, all do: an error in the middle of it parts them."""
        try:
            yield
        except BaseException:
            self.is_broken = True
            raise

    @contextlib.contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        """Turns TensorFlow's errors about other processes into WorkerLost."""
        try:
            yield
        except LOST_ERRORS as error:
            if self._cluster is None:
                raise
            self.is_broken = True
            raise WorkerLost(LOST.format(worker=_lost_worker(self._cluster, str(error)))) from None


def _lost_worker(cluster: Cluster, message: str) -> str:
    """The process that an error is about, if it names one."""
    for role, index in TASK.findall(message):
        name = f"{role} {index}" if role == "worker" else role
        if name in cluster.names and cluster.names.index(name) != cluster.rank:
            return cluster.describe(cluster.names.index(name))
    return "another worker"


def join(strategy: str) -> Group:
    """The group of a run, which is the same one as long as this process lives.

    To be called before TensorFlow's first operation.

    Args:
        strategy: "mirrored": all GPUs of this machine, or its CPU where there is none;
            "multi-worker": all processes that TF_CONFIG names, for which it waits.

    Raises:
        ConfigError: when TF_CONFIG is not what it must be, or this process's port is in use.
        WorkerLost: when not all processes were started in time.
    """
    if not _joined:
        _joined.append(_mirrored() if strategy == "mirrored" else _connected())
    return _joined[0]


def _mirrored() -> Group:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return Group(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _connected() -> Group:
    """The group of the processes of TF_CONFIG, once all of them are there."""
    cluster = Cluster.from_environment()
    others = [rank for rank in range(len(cluster.names)) if rank != cluster.rank]
    if others:
        say(WAITING.format(workers=", ".join(map(cluster.describe, others))))
    try:
        with ending_at_once():
            wait_for_all(cluster)
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (*LOST_ERRORS, tf.errors.InternalError) as error:  # the latter where one dies meanwhile
        raise WorkerLost(LOST.format(worker=_lost_worker(cluster, str(error)))) from None
    return Group(strategy, cluster)


def dismiss(message: str, code: int) -> None:
    """The chief's: lets all other processes say how the run ended, and end as well.

    Args:
        message: what they say.
        code: their exit code.
    """
    for group in _joined:
        if group.is_chief and not group.is_broken:
            with contextlib.suppress(WorkerLost):
                group.order("end", message=message[: ORDER_BYTES // 8], code=code)
