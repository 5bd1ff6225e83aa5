"""What a model that is taught another text keeps of its first one, in numbers and in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIRST_BITS = "first_val_bits_per_byte"  # of an event, with "val_bits_per_byte" of the new text
SAME = 0.005  # bits per byte: a smaller difference is not worth a word


@dataclass(frozen=True)
class Forgetting:
    """The validations of both texts, in bits per byte.

    Attributes:
        title: of the first text.
        before: what the model had on its first text before it was taught; None: not known.
        events: those with both measures, at least one.
    """

    title: str
    before: float | None
    events: Sequence[Mapping[str, Any]]

    def in_words(self) -> str:
        """What it had before, has now, and what it gained on the new text meanwhile.

        Example:
            >>> events = [{FIRST_BITS: 2.25, "val_bits_per_byte": 2.5}]
            >>> Forgetting("Alice", 2.0, events).in_words()
            'Of its first text, Alice, it forgets: from 2.00 bits per byte before to 2.25 now.'
        """
        now = self.events[-1][FIRST_BITS]
        if self.before is None:
            words = f"Its first text, {self.title}, has {now:.2f} bits per byte now"
        elif now > self.before + SAME:
            words = (
                f"Of its first text, {self.title}, it forgets: from {self.before:.2f} bits per "
                f"byte before to {now:.2f} now"
            )
        elif now < self.before - SAME:
            words = (
                f"It is better on its first text, {self.title}, too: from {self.before:.2f} bits "
                f"per byte before to {now:.2f} now"
            )
        else:
            words = f"It keeps its first text, {self.title}: {now:.2f} bits per byte, as before"
        new = [event["val_bits_per_byte"] for event in self.events]
        gained = f"; on the new text from {new[0]:.2f} at the first validation to {new[-1]:.2f}"
        return f"{words}{gained if len(new) > 1 else ''}."


def forgetting_of(
    status: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> Forgetting | None:
    """What the events say of the first text; None where it is not measured, or not yet.

    Args:
        status: what fits of the run's status; any key may be missing.
        events: all of the run's so far.
    """
    measured = [event for event in events if FIRST_BITS in event and "val_bits_per_byte" in event]
    if not measured:
        return None
    return Forgetting(
        status.get("first_title", "which is built in"), status.get("first_bits"), measured
    )
