"""What a run writes for TensorBoard, beside its own events: scalars, samples, settings.

The package `tensorboard` makes the records, without TensorFlow, and is imported only by a run that
wants them. A process writes a file of its own, whole records at a time. One that goes on from a
checkpoint begins with a mark, so that TensorBoard forgets what was undone.
"""

import contextlib
import importlib
import io
import textwrap
import time
from collections.abc import Callable
from typing import Any

from keras_lm.storage.files import append_plain
from keras_lm.training.progress import Run

FAILED = "TensorBoard's events end here: {reason}. The run goes on."
NOT_SCALARS = ("kind", "step")


def part(name: str) -> Any:
    """A module of TensorBoard's, which only a run that writes for it imports."""
    return importlib.import_module(f"tensorboard.{name}")


class TensorBoard:
    """Writes a run's events for TensorBoard; what fails is noted once, and the run goes on.

    Args:
        run: the run, at the step that it begins with.
    """

    def __init__(self, run: Run):
        self.run = run
        self.is_on = run.settings.tensorboard
        self.file = run.folder.tensorboard_file(int(time.time()))
        self._try(self._begin)

    def write(self, event: dict[str, Any]) -> None:
        """Adds what happened: the numbers of a metrics event, or a sample's text."""
        self._try(self._add, event)

    def _try(self, action: Callable[..., None], *arguments: Any) -> None:
        if not self.is_on:
            return
        try:
            action(*arguments)
        except Exception as error:  # whatever it is, the run is worth more
            self.is_on = False
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            with contextlib.suppress(OSError):
                self.run.note(FAILED.format(reason=reason))

    def _begin(self) -> None:
        log = part("compat.proto.event_pb2").SessionLog
        self.file.parent.mkdir(exist_ok=True)
        step = self.run.progress.step
        self._append(file_version="brain.Event:2")
        self._append(step=step + 1, session_log=log(status=log.START))
        parts = self.run.config.parts.values()
        settings = {name: value for each in parts for name, value in each.to_dict().items()}
        hparams = part("plugins.hparams.summary_v2").hparams_pb
        self._append(summary=hparams(settings, trial_id=self.run.folder.run_id))

    def _add(self, event: dict[str, Any]) -> None:
        summary = part("compat.proto.summary_pb2").Summary
        if event["kind"] == "sample":
            # TensorBoard shows Markdown, in which an indented text stays as it is.
            text = textwrap.indent(event["prompt"] + event["text"], "    ", lambda line: True)
            tensor = part("util.tensor_util").make_tensor_proto(text)
            metadata = part("plugins.text.metadata").create_summary_metadata("sample", "")
            values = [summary.Value(tag="sample", tensor=tensor, metadata=metadata)]
        else:
            numbers = {k: v for k, v in event.items() if k not in NOT_SCALARS}
            values = [summary.Value(tag=tag, simple_value=v) for tag, v in numbers.items()]
        self._append(step=event["step"], summary=summary(value=values))

    def _append(self, **fields: Any) -> None:
        """Adds one record to the file, of an event with these fields."""
        event = part("compat.proto.event_pb2").Event(wall_time=time.time(), **fields)
        record = io.BytesIO()
        part("summary.writer.record_writer").RecordWriter(record).write(event.SerializeToString())
        with append_plain(self.file) as file:
            if file.write(record.getvalue()) < record.tell():
                raise OSError("The disk is full")
