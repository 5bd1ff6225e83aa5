"""The process that runs a model for the page: it generates, and answers in JSON lines.

`python -m keras_lm.worker MODEL REQUESTS REPLIES`: the last two are inherited file descriptors, so
whatever libraries print cannot disturb the protocol. Every line bears the request's id.

    {"id": 3, "do": "generate", "prompt": "The man", "settings": {"temperature": 0.8}}
    {"id": 3, "do": "cancel"}
    {"id": 3, "kind": "text", "text": "..."}   any number, then one of
    {"id": 3, "kind": "end", "seconds": 0.4, "unknown": [], "tokens_cut": 0}
    {"id": 3, "kind": "error", "message": "..."}

Id 0 is the model itself: one line "ready" or "error" before the first request is served. The
process ends when the requests' pipe closes or nothing was asked for IDLE_SECONDS.
"""

import json
import os
import queue
import sys
import threading
import time
import traceback
from typing import Any, BinaryIO

IDLE_SECONDS = 600.0


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
        from keras_lm.bundle import load
        from keras_lm.model_file import ModelFileError

        try:
            self.bundle = load(self.model_file)
        except ModelFileError as error:
            self.reply(0, "error", message=str(error))
            return
        self.reply(0, "ready", parameters=self.bundle.config.parameter_count())
        threading.Thread(target=self.read_requests, daemon=True).start()
        while (request := self._next()) is not None:
            try:
                self.generate(request)
            except ValueError as error:  # ConfigError: a setting out of its range
                self.reply(request["id"], "error", message=str(error))
            except Exception as error:
                traceback.print_exc()  # to the log
                message = f"Generation failed: {type(error).__name__}. The worker's log has more."
                self.reply(request["id"], "error", message=message)

    def _next(self) -> dict | None:
        try:
            return self.waiting.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return None

    def generate(self, request: dict) -> None:
        """Streams one continuation."""
        from keras_lm.config import GenerationConfig
        from keras_lm.generation import stream_text

        begin, request_id, prompt = time.perf_counter(), request["id"], request["prompt"]
        config = GenerationConfig.from_dict(request["settings"])
        pieces = stream_text(
            self.bundle.generator,
            self.bundle.tokenizer,
            prompt,
            config,
            cancelled=lambda: request_id in self.cancelled,
        )
        for piece in pieces:
            self.reply(request_id, "text", text=piece)
        self.reply(
            request_id,
            "end",
            seconds=time.perf_counter() - begin,
            unknown=self.bundle.tokenizer.unknown(prompt),
            tokens_cut=self.bundle.tokens_cut(prompt),
        )


class Everything:
    """Contains whatever is asked for: with the page gone, every request is cancelled."""

    def __contains__(self, _: object) -> bool:
        return True


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    path, requests_fd, replies_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with os.fdopen(requests_fd, "rb") as requests, os.fdopen(replies_fd, "wb") as replies:
        Worker(path, requests, replies).serve()
