"""How long a run is and how its learning rate goes, as far as that changes on the way.

A plan is a list of stages. Each is an event of the run's folder before a step follows it, and none
is ever changed. So a run that repeats steps after a crash makes them with the same learning rates,
whatever the clock says by then.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

EVENT = "plan"  # the kind of its events


class Stage(NamedTuple):
    """The learning rate's schedule and the run's end, from one step on.

    Attributes:
        step: updates made when it begins to hold.
        steps: the run's last step.
        progress: of the decay at `step`, 0 to 1.
        begin: updates made before the warm-up: 0, or where longer training began.
        warmup: its updates.
        rate: the learning rate that it rises from.
        deadline: counted seconds at which the run shall have ended; 0: it ends by its steps alone.
    """

    step: int
    steps: int
    progress: float = 0.0
    begin: int = 0
    warmup: int = 0
    rate: float = 0.0
    deadline: float = 0.0

    @property
    def decay_begin(self) -> int:
        """Updates made before the learning rate falls, from where it is at `step`."""
        return max(self.step, self.begin + self.warmup)

    def progress_at(self, step: int) -> float:
        """How much of the decay is done after `step` updates, 0 to 1."""
        part = (step - self.decay_begin) / max(self.steps - self.decay_begin, 1)
        return self.progress + (1.0 - self.progress) * min(max(part, 0.0), 1.0)

    def ending(self, steps: int, step: int) -> Self:
        """From `step` on with another last step; the learning rate goes on from where it is.

        Example:
            >>> Stage(0, 100).ending(steps=150, step=50).progress_at(100)
            0.75
        """
        return self._replace(step=step, steps=steps, progress=self.progress_at(step))


class Plan:
    """The stages of a run.

    Args:
        first: what holds from the beginning.
        events: of the run's folder, those of plans among them.

    Example:
        >>> plan = Plan(Stage(0, 100))
        >>> plan.add(Stage(50, 120, progress=0.5))
        >>> plan.at(49).steps, plan.at(50).steps, plan.next_change(49), plan.next_change(50)
        (100, 120, 50, None)
    """

    def __init__(self, first: Stage, events: Iterable[Mapping[str, Any]] = ()):
        self._stages = [first]
        for event in events:
            if event["kind"] == EVENT:
                self.add(Stage(**{name: event[name] for name in Stage._fields if name in event}))

    def at(self, step: int) -> Stage:
        """What holds after `step` updates."""
        return [stage for stage in self._stages if stage.step <= step][-1]

    def next_change(self, step: int) -> int | None:
        """After how many updates another stage follows; None: after none that is planned yet."""
        return next((stage.step for stage in self._stages if stage.step > step), None)

    def add(self, stage: Stage) -> None:
        """Lets a stage hold from its step on, whatever was planned from there."""
        earlier = [each for each in self._stages if each.step < stage.step]
        self._stages = [*earlier, stage]
