"""The command line of a worker that may kill itself, as a test says: `python -m ... STEP WORDS...`.

STEP is after how many updates; 0: never. See `tests/training/test_workers.py`.
"""

import os
import signal
import sys

from keras_lm.cli import main


def kill_after(step: int) -> None:
    """Lets this process die, as by a lost machine, before the call that would go past `step`."""
    from keras_lm.training.replicas import DistributedSteps

    train = DistributedSteps.train

    def dying(self, windows, schedule):
        if self._run.progress.step >= step:
            os.kill(os.getpid(), signal.SIGKILL)
        return train(self, windows, schedule)

    DistributedSteps.train = dying


if __name__ == "__main__":
    if after := int(sys.argv.pop(1)):
        kill_after(after)
    sys.exit(main())
