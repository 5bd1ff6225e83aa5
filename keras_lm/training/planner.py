"""Ends a run on time, early or later: decides its stages and writes them down."""

import time

from keras_lm.settings.longer import Longer
from keras_lm.settings.training_config import MOST_STEPS
from keras_lm.training.optimizers import WarmupDecay
from keras_lm.training.pace import Pace
from keras_lm.training.plan import EVENT, Plan, Stage
from keras_lm.training.progress import Run

# A run's end is moved when it is wrong by more than the larger of these: a share of its length, and
# one of the steps that are left, since there is time to correct what is wrong early.
TOLERANCE, TOLERANCE_LEFT = 0.01, 0.2
MEASURED_CALLS = 3  # compiled calls after which the pace is known
LONGEST_WARMUP = 0.1  # of the steps that a run is trained longer
TOO_SHORT = (
    "The budget of {budget:g} s was used up before the pace was known. Choose a larger "
    "max_seconds, or leave the start out of it by count_start."
)
ADDED_TOO_SHORT = (
    "The seconds that were added were used up before the pace was known. Train longer by more."
)
STOPPED_EARLY = (
    "Stopped early: {patience} validations in a row were not better than that of step {step:,} "
    "({loss:.3f})."
)
LONGER = (
    "Trained longer, {amount} more: the learning rate begins again at {rate:.2g}, rises to its "
    "peak and falls."
)


def is_off(stage: Stage, steps: int, step: int) -> bool:
    """Whether a run should end elsewhere than is planned.

    Args:
        stage: what is planned.
        steps: the last step by the pace that was measured.
        step: updates made.

    Example:
        >>> stage = Stage(0, 1000)
        >>> is_off(stage, 900, step=0), is_off(stage, 900, step=800)
        (False, True)
    """
    tolerated = max(TOLERANCE * (steps - stage.begin), TOLERANCE_LEFT * (steps - step))
    return abs(steps - stage.steps) > tolerated


class Planner:
    """The plan of one run, which its learning rate follows.

    Args:
        run: its folder's events hold what was planned before.
        schedule: of its optimizer.

    Attributes:
        pace: measured on the way.
        has_measured: whether the chores were measured.
    """

    def __init__(self, run: Run, schedule: WarmupDecay):
        self._run, self._schedule = run, schedule
        self.pace, self.has_measured = Pace(), False
        settings = run.settings
        first = Stage(
            0,
            run.config.most_steps,
            warmup=settings.warmup_steps,
            deadline=settings.max_seconds,
        )
        events = run.folder.read_events()[0]
        self._plan = Plan(first, events)
        steps = [run.folder.read_status().get("step", 0), *(e.get("step", 0) for e in events)]
        self._made_before = max(steps)  # those that are made again follow the same plan
        self._every = {
            "validation": settings.eval_every,
            "sample": settings.sample_every,
            "checkpoint": settings.checkpoint_every,
        }

    @property
    def stage(self) -> Stage:
        """What holds for the next step."""
        return self._plan.at(self._run.progress.step)

    @property
    def known_steps(self) -> int:
        """The run's last step; 0 while the pace of a budget of seconds is not known."""
        return self.stage.steps if self.stage.steps < MOST_STEPS else 0

    @property
    def next_change(self) -> int | None:
        """After how many steps another stage follows; None: that is not known yet."""
        return self._plan.next_change(self._run.progress.step)

    @property
    def must_measure(self) -> bool:
        """Whether it is time to measure what the chores take, for a run that ends by the clock."""
        is_known = self.pace.calls >= MEASURED_CALLS
        return self._is_timed and is_known and not self.has_measured

    @property
    def status(self) -> dict[str, float]:
        """What the run's status says of its length: its steps, and when its seconds end.

        And after which step it was last trained longer; 0: it was not.
        """
        stage = self.stage
        ends_at = time.time() + self._seconds_left if stage.deadline else 0.0
        return {"steps": stage.steps, "ends_at": ends_at, "longer_from": stage.begin}

    @property
    def _is_timed(self) -> bool:
        is_new = self._run.progress.step >= self._made_before
        return self.stage.deadline > 0.0 and self.next_change is None and is_new

    @property
    def _seconds_left(self) -> float:
        return self.stage.deadline - self._counted

    @property
    def _counted(self) -> float:
        return self._run.progress.counted_seconds(self._run.settings.count_start)

    def follow(self) -> None:
        """Lets the learning rate of the next step be the planned one."""
        self._schedule.follow(self.stage)

    def replan(self) -> None:
        """Moves the end of a run that ends by the clock to where it will be on time."""
        if not self._is_timed:
            return
        stage, step = self.stage, self._run.progress.step
        left, steps = self._seconds_left, step
        if self.pace.calls > MEASURED_CALLS:
            steps += self.pace.steps_within(left, step, self._every)
        elif left > 0.0:
            return
        else:
            words = ADDED_TOO_SHORT if stage.begin else TOO_SHORT
            self._run.note(words.format(budget=stage.deadline))
        steps = min(steps, MOST_STEPS if stage.begin else self._run.config.most_steps)
        if is_off(stage, steps, step):
            self._take(stage.ending(steps, step))

    def train_longer(self, longer: Longer) -> None:
        """Begins the schedule again from the last learning rate."""
        progress, settings = self._run.progress, self._run.settings
        step, warmup = progress.step, settings.warmup_steps
        self._schedule.follow(self._plan.at(max(0, step - 1)))
        rate = float(self._schedule(step - 1)) if step else 0.0
        stage = Stage(step, MOST_STEPS, begin=step, rate=rate)
        if longer.steps:
            steps = longer.steps
            stage = stage._replace(steps=min(step + steps, MOST_STEPS))
        else:
            begin = progress.earlier_seconds if settings.count_start else self._counted
            stage = stage._replace(deadline=begin + longer.seconds)
            steps = longer.seconds * step / max(progress.train_seconds, 1e-9)  # about so many
        warmup = min(warmup, int(LONGEST_WARMUP * steps))
        self._made_before = step  # of what was made after this, nothing is left
        self._take(stage._replace(warmup=warmup))
        self._run.note(LONGER.format(amount=longer, rate=rate))

    def stop_if_hopeless(self) -> None:
        """Lets the present step be the last one when the run's patience is used up.

        In a run that is trained longer, the validations before that do not count.
        """
        progress, settings = self._run.progress, self._run.settings
        best, step, patience = progress.best, progress.step, settings.patience
        every = max(1, settings.eval_every)
        validated = step // every - self.stage.begin // every
        if best and 0 < patience <= min(best.since, validated) and step < self.stage.steps:
            self._take(self.stage.ending(step, step))
            self._run.note(STOPPED_EARLY.format(patience=patience, step=best.step, loss=best.loss))

    def _take(self, stage: Stage) -> None:
        """Writes a stage down, and lets it hold."""
        self._run.folder.append_event({"kind": EVENT, **stage._asdict()})
        self._plan.add(stage)
        self._run.folder.write_status(**self.status)
        self.follow()
