"""The page's side of the workers that generate and inspect: one process per model, two at most."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from keras_lm.storage.files import append_plain
from keras_lm.system.paths import PROJECT, environment_for_children

MAX_WORKERS = 2


@dataclass
class Reply:
    """What was answered so far to one request; the reader's thread fills it.

    Attributes:
        request_id: of the request.
        texts: of each prompt, the continuation so far.
        error: a sentence when it failed.
        result: the values of the last line.
    """

    request_id: int
    texts: list[str] = field(default_factory=list)
    error: str | None = None
    result: dict[str, Any] = field(default_factory=dict)
    _end: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> bool:
        """Whether the last line was read."""
        return self._end.is_set()

    def finish(self) -> None:
        """Marks it as done."""
        self._end.set()

    def wait(self, seconds: float) -> bool:
        """Waits until it is done, for at most so many seconds; returns whether it is."""
        return self._end.wait(seconds)


class WorkerClient:
    """One worker process and the thread that reads its answers.

    Args:
        model_file: the `.keras` file it loads.
        log_file: where its own output goes.
    """

    def __init__(self, model_file: Path, log_file: Path):
        requests_read, requests_write = os.pipe()
        replies_read, replies_write = os.pipe()
        words = [sys.executable, "-m", "keras_lm.generation.worker", str(model_file.resolve())]
        with open_log(log_file) as log:
            self.process = subprocess.Popen(
                [*words, str(requests_read), str(replies_write)],
                cwd=PROJECT,
                env=environment_for_children(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(requests_read, replies_write),
            )
        os.close(requests_read)
        os.close(replies_write)
        self._requests = os.fdopen(requests_write, "wb", buffering=0)
        self._ids = itertools.count(1)
        self._replies = {0: Reply(0)}
        self._lock, self._sending, self._ended = threading.Lock(), threading.Lock(), False
        self._prepared: set[int] = set()  # numbers of texts
        self._reader = threading.Thread(target=self._drain, args=(replies_read,), daemon=True)
        self._reader.start()

    @property
    def loading(self) -> Reply:
        """The reply about the model itself: done when it is loaded or refused."""
        return self._replies[0]

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs and answers."""
        return not self._ended and self.process.poll() is None

    @property
    def is_busy(self) -> bool:
        """Whether an answer is not complete yet, the one about the model itself included."""
        with self._lock:
            return not all(reply.done for reply in self._replies.values())

    def _drain(self, replies_fd: int) -> None:
        with os.fdopen(replies_fd, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break  # the process was killed while it wrote
                values = json.loads(line)
                reply = self._replies.get(values.pop("id"))
                if reply is not None:
                    self._take(reply, **values)
        with self._lock:
            self._ended = True
            for reply in self._replies.values():
                self._give_up(reply)

    @staticmethod
    def _give_up(reply: Reply) -> None:
        if not reply.done:
            reply.error = "The model's process ended: it was idle, killed or out of memory."
            reply.finish()

    @staticmethod
    def _take(reply: Reply, kind: str, **values: Any) -> None:
        if kind == "text":
            reply.texts[values["row"]] += values["text"]
            return
        reply.error = values.get("message") if kind == "error" else None
        reply.result = values
        reply.finish()

    def generate(self, prompts: list[str], settings: dict[str, Any]) -> Reply:
        """Asks for continuations; returns the reply, which fills with text."""
        reply = Reply(next(self._ids), [""] * len(prompts))
        return self._ask(reply, "generate", prompts=prompts, settings=settings)

    def prepare(self, count: int) -> None:
        """Lets the worker get ready to generate `count` texts at once; only the first call does."""
        with self._lock:
            is_new = count not in self._prepared
            self._prepared.add(count)
        if is_new:
            self._ask(Reply(next(self._ids)), "prepare", count=count)

    def inspect(self, text: str, token: int | None, block: int | None) -> Reply:
        """Asks what `generation.inspection` says of a text, which becomes the result."""
        reply = Reply(next(self._ids))
        return self._ask(reply, "inspect", text=text, token=token, block=block)

    def _ask(self, reply: Reply, do: str, **values: Any) -> Reply:
        with self._lock:
            pending = {key: old for key, old in self._replies.items() if key == 0 or not old.done}
            self._replies = pending | {reply.request_id: reply}
            if self._ended:
                self._give_up(reply)
        self._send({"id": reply.request_id, "do": do, **values})
        return reply

    def cancel(self, reply: Reply) -> None:
        """Ends a request early; its reply keeps the text so far."""
        self._send({"id": reply.request_id, "do": "cancel"})

    def _send(self, request: dict) -> None:
        line = json.dumps(request).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError, ValueError):
            self._requests.write(line)  # OSError, ValueError: it ended, which the reader notes

    def close(self) -> None:
        """Ends the process, which notes that its pipe is closed."""
        self._requests.close()
        try:
            self.process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def open_log(path: Path) -> IO[bytes]:
    """Opens the log to append to; where it cannot be written, nothing is logged."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return append_plain(path)
    except OSError:
        return open(os.devnull, "ab")


class WorkerPool:
    """At most MAX_WORKERS workers; the idle one that was used least recently makes room.

    Args:
        log_file: where the workers' own output goes.
    """

    def __init__(self, log_file: Path):
        self.log_file = log_file
        # By the file and its time of change in nanoseconds; the latest used is the last.
        self._workers: dict[tuple[Path, int], WorkerClient] = {}
        self._lock = threading.Lock()

    def worker(self, model_file: Path) -> WorkerClient | None:
        """The worker for the file as it is now, started if need be; None while all others work.

        Raises:
            FileNotFoundError: without the file.
        """
        key = (model_file, model_file.stat().st_mtime_ns)
        with self._lock:
            for dead in [key for key, worker in self._workers.items() if not worker.is_alive]:
                self._workers.pop(dead).close()
            worker = self._workers.pop(key, None)
            if worker is None:
                if len(self._workers) >= MAX_WORKERS and not self._make_room():
                    return None
                worker = WorkerClient(model_file, self.log_file)
            self._workers[key] = worker
            return worker

    def _make_room(self) -> bool:
        for key, worker in self._workers.items():
            if not worker.is_busy:
                self._workers.pop(key).close()
                return True
        return False

    def close(self) -> None:
        """Ends all workers."""
        with self._lock:
            while self._workers:
                self._workers.popitem()[1].close()
