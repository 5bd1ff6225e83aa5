"""The process that runs a model for the page: it generates and inspects, and answers in JSON lines.

`python -m keras_lm.generation.worker MODEL REQUESTS REPLIES`: the last two are inherited file
descriptors, so whatever libraries print cannot disturb the protocol. Every line bears the
request's id.

    {"id": 3, "do": "generate", "prompts": ["The man"], "settings": {"temperature": 0.8}}
    {"id": 3, "do": "cancel"}
    {"id": 3, "kind": "text", "row": 0, "text": "..."}   any number, then one of
    {"id": 3, "kind": "end", "seconds": 0.4, "unknown": [], "tokens_cut": 0}
    {"id": 3, "kind": "error", "message": "..."}
    {"id": 5, "do": "prepare", "count": 1}   compiles the loops for so many prompts; then "end"
    {"id": 4, "do": "inspect", "text": "The man", "token": null, "block": 0}
    {"id": 4, "kind": "end", ...}   what keras_lm.generation.inspection.inspect gives, or "error"

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
from typing import Any, BinaryIO

from keras_lm.storage.cache import keep_compiled_programs, seal_programs

IDLE_SECONDS = 600.0
SEND_SECONDS = 0.02  # pieces of text are sent together; a line each would cost as much as the model


class Worker:
    """Serves one model.

    Args:
        model_file: the `.keras` file.
        requests: binary stream of JSON lines.
        replies: binary stream of JSON lines.
    """

    def __init__(self, model_file: str, requests: BinaryIO, replies: BinaryIO):
        self.model_file = model_file
        self.requests, self.replies = requests, replies
        self.waiting: queue.Queue[dict | None] = queue.Queue()
        self.cancelled: set[int] = set()
        self.last_read: tuple[bytes, Any] = (b"", None)  # the last text's ids and Reading

    def reply(self, request_id: int, kind: str, **values: Any) -> None:
        """Writes one line."""
        line = json.dumps({"id": request_id, "kind": kind, **values}).encode() + b"\n"
        self.replies.write(line)
        self.replies.flush()

    def read_requests(self) -> None:
        """Hears cancellations at once, and queues the rest; None marks the pipe's end."""
        for line in self.requests:
            request = json.loads(line)
            if request["do"] == "cancel":
                self.cancelled.add(request["id"])
            else:
                self.waiting.put(request)
        self.cancelled = Everything()
        self.waiting.put(None)

    def serve(self) -> None:
        """Loads the model and answers until there is nobody left to answer."""
        gc.disable()
        from keras_lm.generation.bundle import load
        from keras_lm.keras_file.opening import ModelFileError

        gc.freeze()  # what was loaded is no garbage: collecting it took half a second
        gc.enable()
        try:
            self.bundle = load(self.model_file)
        except ModelFileError as error:
            self.reply(0, "error", message=str(error))
            return
        self.reply(0, "ready", parameters=self.bundle.config.parameter_count())
        threading.Thread(target=self.read_requests, daemon=True).start()
        while (request := self._next()) is not None:
            try:
                self.answer(request)
                seal_programs()  # the first answer compiles
            except ValueError as error:  # a setting out of its range, a text too short
                self.reply(request["id"], "error", message=str(error))
            except Exception as error:
                traceback.print_exc()  # to the log
                message = f"The model failed: {type(error).__name__}. The worker's log has more."
                self.reply(request["id"], "error", message=message)

    def _next(self) -> dict | None:
        try:
            return self.waiting.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return None

    def answer(self, request: dict) -> None:
        """Serves one request."""
        if request["do"] == "generate":
            self.generate(request)
        elif request["do"] == "prepare":
            self.prepare(request)
        else:
            from keras_lm.generation.inspection import inspect

            arguments = (request["text"], request["token"], request["block"], self.read)
            self.reply(request["id"], "end", **inspect(self.bundle, *arguments))

    def read(self, model, ids):
        """`inspection.Reading`, once for all the tokens of a text that are looked at in turn."""
        from keras_lm.generation.inspection import Reading

        if ids.tobytes() != self.last_read[0]:
            self.last_read = ids.tobytes(), Reading(model, ids)
        return self.last_read[1]

    def prepare(self, request: dict) -> None:
        """Compiles what generating so many texts at once needs, before anybody waits for it."""
        if self.waiting.empty():  # else what is waited for compiles what it needs
            from keras_lm.settings.config import GenerationConfig

            prompts = [[0] * (self.bundle.model.at_once + 1)] * request["count"]
            for _ in self.bundle.generator.stream_all(prompts, GenerationConfig(max_new_tokens=1)):
                pass
        self.reply(request["id"], "end")

    def generate(self, request: dict) -> None:
        """Streams the continuations of some prompts."""
        from keras_lm.generation.generator import stream_texts
        from keras_lm.settings.config import GenerationConfig

        begin, request_id, prompts = time.perf_counter(), request["id"], request["prompts"]
        tokenizer, generator = self.bundle.tokenizer, self.bundle.generator
        compiled_before = generator.compile_seconds
        pieces = stream_texts(
            generator,
            tokenizer,
            prompts,
            GenerationConfig.from_dict(request["settings"]),
            cancelled=lambda: request_id in self.cancelled,
        )
        waiting, sent = [""] * len(prompts), 0.0

        def send() -> None:
            for row, text in enumerate(waiting):
                if text:
                    self.reply(request_id, "text", row=row, text=text)
                    waiting[row] = ""

        for row, piece in pieces:
            waiting[row] += piece
            if time.perf_counter() - sent > SEND_SECONDS:
                send()
                sent = time.perf_counter()
        send()
        compiling = generator.compile_seconds - compiled_before
        self.reply(
            request_id,
            "end",
            seconds=time.perf_counter() - begin - compiling,
            unknown=tokenizer.unknown("".join(dict.fromkeys(prompts))),
            tokens_cut=max(map(self.bundle.tokens_cut, prompts)),
        )


class Everything:
    """Contains whatever is asked for: with the page gone, every request is cancelled."""

    def __contains__(self, _: object) -> bool:
        return True


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_compiled_programs()
    path, requests_fd, replies_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with os.fdopen(requests_fd, "rb") as requests, os.fdopen(replies_fd, "wb") as replies:
        Worker(path, requests, replies).serve()
