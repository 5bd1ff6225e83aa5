"""By how much a run is trained longer than was planned."""

from dataclasses import dataclass

from keras_lm.settings.checks import ConfigError, check_value, limits_of
from keras_lm.settings.training_config import TrainingConfig


@dataclass(frozen=True)
class Longer:
    """More steps, or more seconds; ConfigError for anything but one of them.

    Example:
        >>> str(Longer(steps=2000)), str(Longer(seconds=90)), Longer(seconds=90).flags
        ('2,000 steps', '90 seconds', ['--max-seconds', '90'])
    """

    steps: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.steps) == bool(self.seconds):
            raise ConfigError(
                "Longer training needs either steps or seconds above 0, but got "
                f"{self.steps} steps and {self.seconds:g} seconds."
            )
        for name, value in (("steps", self.steps), ("max_seconds", self.seconds)):
            if value:
                spec = TrainingConfig.spec(name)
                check_value(name, value, spec.type, **limits_of(spec))

    def __str__(self) -> str:
        return f"{self.steps:,} steps" if self.steps else f"{self.seconds:g} seconds"

    @property
    def flags(self) -> list[str]:
        """What the command resume calls it."""
        if self.steps:
            return ["--steps", str(self.steps)]
        return ["--max-seconds", f"{self.seconds:g}"]
