"""The process that runs a model for the page: it generates and inspects, and answers in JSON lines.

`python -m keras_lm.generation.worker MODEL REQUESTS REPLIES`: the last two are inherited file
descriptors, so whatever libraries print cannot disturb the protocol. Every line has the
request's id.

    {"id": 3, "do": "generate", "prompts": ["The man"], "settings": {"temperature": 0.8}}
    {"id": 3, "do": "cancel"}
    {"id": 3, "kind": "text", "row": 0, "text": "..."}   any number, then one of
    {"id": 3, "kind": "end", "seconds": 0.4, "unknown": [], "tokens_cut": 0}
    {"id": 3, "kind": "error", "message": "..."}
    {"id": 5, "do": "prepare", "count": 1}   compiles the loops for so many prompts; then "end"
    {"id": 4, "do": "inspect", "text": "The man", "token": null, "block": 0}
    {"id": 4, "kind": "end", ...}   what keras_lm.generation.inspection.look_into gives, or "error"

`seconds` leave out compiling, which the first answer waits for. Id 0 is the model itself: one line
"ready" or "error" before the first request is served. The process ends when the requests' pipe
closes or nothing was asked for IDLE_SECONDS.
"""

import gc
import json
import os
import queue
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO

from keras_lm.storage.cache import keep_compiled_programs, seal_programs

if TYPE_CHECKING:  # at run time these load TensorFlow, which must not delay the first request
    from keras_lm.generation.bundle import Bundle
    from keras_lm.generation.inspection import ReadText

IDLE_SECONDS = 600.0
SEND_SECONDS = 0.02  # pieces of text are sent together; a line each would cost as much as the model


class Inbox:
    """The requests of the page.

    Args:
        requests: binary stream of JSON lines.
    """

    def __init__(self, requests: BinaryIO):
        self._requests = requests
        self._waiting: queue.Queue[dict | None] = queue.Queue()
        self._cancelled: set[int] = set()
        self._is_closed = False

    def listen(self) -> None:
        """Reads until the pipe ends: notes cancellations at once, and queues the rest."""
        for line in self._requests:
            request = json.loads(line)
            if request["do"] == "cancel":
                self._cancelled.add(request["id"])
            else:
                self._waiting.put(request)
        self._is_closed = True
        self._waiting.put(None)

    def next(self) -> dict | None:
        """The next request; None when there will be none, or was none for IDLE_SECONDS."""
        try:
            return self._waiting.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return None

    @property
    def is_empty(self) -> bool:
        """Whether no request waits."""
        return self._waiting.empty()

    def has_cancelled(self, request_id: int) -> bool:
        """Whether nobody waits for the answer any more: it was cancelled, or the page is gone."""
        return self._is_closed or request_id in self._cancelled


class Outbox:
    """The answers to the page.

    Args:
        replies: binary stream of JSON lines.
    """

    def __init__(self, replies: BinaryIO):
        self._replies = replies

    def send(self, request_id: int, kind: str, **values: Any) -> None:
        """Writes one line."""
        line = json.dumps({"id": request_id, "kind": kind, **values}).encode() + b"\n"
        self._replies.write(line)
        self._replies.flush()


def serve(model_file: str, inbox: Inbox, outbox: Outbox) -> None:
    """Loads the model, and answers until the page is gone or asks for nothing."""
    gc.disable()
    from keras_lm.generation.bundle import load
    from keras_lm.keras_file.opening import ModelFileError

    gc.freeze()  # what was loaded stays: looking for garbage in it took half a second
    gc.enable()
    try:
        bundle = load(model_file)
    except ModelFileError as error:
        outbox.send(0, "error", message=str(error))
        return
    outbox.send(0, "ready", parameters=bundle.config.parameter_count())
    threading.Thread(target=inbox.listen, daemon=True).start()
    worker = Worker(bundle, inbox, outbox)
    while (request := inbox.next()) is not None:
        try:
            worker.answer(request)
            seal_programs()  # the first answer compiles
        except ValueError as error:  # a setting out of its range, a text too short
            outbox.send(request["id"], "error", message=str(error))
        except Exception as error:
            traceback.print_exc()  # to the log
            message = f"The model failed: {type(error).__name__}. The worker's log has more."
            outbox.send(request["id"], "error", message=message)


class Worker:
    """Answers requests with one model.

    Args:
        bundle: the model with its tokenizer.
        inbox: asked whether a request is still wanted.
        outbox: gets the answers.
    """

    def __init__(self, bundle: "Bundle", inbox: Inbox, outbox: Outbox):
        self.bundle, self.inbox, self.outbox = bundle, inbox, outbox
        self._last_read: ReadText | None = None

    def answer(self, request: dict) -> None:
        """Serves one request."""
        if request["do"] == "generate":
            self.generate(request)
        elif request["do"] == "prepare":
            self.prepare(request)
        else:
            self.inspect(request)

    def inspect(self, request: dict) -> None:
        """Looks into a text, which is read once for all its tokens that are asked for in turn."""
        from keras_lm.generation.inspection import look_into, read_text

        if self._last_read is None or self._last_read.text != request["text"]:
            self._last_read = read_text(self.bundle, request["text"])
        found = look_into(self._last_read, request["token"], request["block"])
        self.outbox.send(request["id"], "end", **found)

    def prepare(self, request: dict) -> None:
        """Compiles what generating so many texts at once needs, before anybody waits for it."""
        if self.inbox.is_empty:  # else what is waited for compiles what it needs
            from keras_lm.settings.config import GenerationConfig

            prompts = [[0] * (self.bundle.model.at_once + 1)] * request["count"]
            for _ in self.bundle.generator.stream_all(prompts, GenerationConfig(max_new_tokens=1)):
                pass
        self.outbox.send(request["id"], "end")

    def generate(self, request: dict) -> None:
        """Streams the continuations of some prompts."""
        from keras_lm.generation.generator import stream_texts
        from keras_lm.settings.config import GenerationConfig

        begin, request_id, prompts = time.perf_counter(), request["id"], request["prompts"]
        tokenizer, generator = self.bundle.tokenizer, self.bundle.generator
        compiled_before = generator.compile_seconds
        config = GenerationConfig.from_dict(request["settings"])
        pieces = stream_texts(
            generator,
            tokenizer,
            prompts,
            config,
            cancelled=lambda: self.inbox.has_cancelled(request_id),
        )
        waiting, sent = [""] * len(prompts), 0.0

        def send() -> None:
            for row, text in enumerate(waiting):
                if text:
                    self.outbox.send(request_id, "text", row=row, text=text)
                    waiting[row] = ""

        for row, piece in pieces:
            waiting[row] += piece
            if time.perf_counter() - sent > SEND_SECONDS:
                send()
                sent = time.perf_counter()
        send()
        compiling = generator.compile_seconds - compiled_before
        self.outbox.send(
            request_id,
            "end",
            seconds=time.perf_counter() - begin - compiling,
            unknown=tokenizer.unknown("".join(dict.fromkeys(prompts))),
            tokens_cut=max(map(self.bundle.tokens_cut, prompts)),
        )


def main(model_file: str, requests_fd: int, replies_fd: int) -> None:
    """Serves a model over two open file descriptors."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_compiled_programs()
    with os.fdopen(requests_fd, "rb") as requests, os.fdopen(replies_fd, "wb") as replies:
        serve(model_file, Inbox(requests), Outbox(replies))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
