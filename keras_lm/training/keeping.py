"""What a run keeps: checkpoints to go on from, its model, and its best model where that is another.

The best weights wait in memory and are written with the next checkpoint, which names them in its
position: after a crash, the steps since then find them again.
"""

import numpy as np
from numpy.typing import NDArray

from keras_lm.export.keras_archive import save_model
from keras_lm.model.backend import keras
from keras_lm.model.language_model import LanguageModel
from keras_lm.model.low_rank import plain_weights
from keras_lm.training.checkpoint import save_checkpoint
from keras_lm.training.progress import Run


class Diverged(ArithmeticError):
    """Loss, gradient or weights are no longer finite numbers; the message says which, when."""


class Keeper:
    """Writes one run's checkpoints and models.

    Args:
        run: whose folder they are in.
        model: as it is trained.
        variables: all that a checkpoint holds.
    """

    def __init__(self, run: Run, model: LanguageModel, variables: list[keras.Variable]):
        self._run, self._model, self._variables = run, model, variables
        self._best_weights: list[NDArray] = []  # that are not on the disk yet

    def go_on(self) -> None:
        """Forgets what was kept in memory: the run is at another step, with that step's weights."""
        best = self._run.progress.best
        is_here = best is not None and best.step == self._run.progress.step
        self._best_weights = plain_weights(self._model) if is_here else []

    def validated(self, loss: float) -> None:
        """Notes the loss of the weights as they are, in nats per token; the best ones are kept."""
        if self._run.progress.validated(loss):
            self._best_weights = plain_weights(self._model)

    def save(self) -> None:
        """Writes a checkpoint and the models.

        Raises:
            Diverged: when there is a weight that is no number: what is kept must be usable.
            OSError: when the disk refuses; what was there is intact.
        """
        run, folder, progress = self._run, self._run.folder, self._run.progress
        if not all(np.isfinite(weight).all() for weight in plain_weights(self._model)):
            raise Diverged(f"A weight was no longer a finite number at step {progress.step}")
        best = progress.best
        if best and best.step < progress.step and self._best_weights:  # else it is the model itself
            self._save_model(folder.best_file(best.step), self._best_weights)
            self._best_weights = []
        folder.flush_events()  # those up to a checkpoint are as safe as itself
        position = progress.position() | {"text_sha256": run.corpus.sha256}
        save_checkpoint(folder.checkpoints, progress.step, self._variables, position)
        self._save_model(folder.model_file)
        is_better = best is not None and best.since > 0
        folder.write_status(
            model_step=progress.step,
            best_step=best.step if best and is_better else 0,
            best_loss=best.loss if best else None,
            last_loss=progress.val_loss,
            train_seconds=progress.train_seconds,
        )
        folder.remove_best_files(but=best.step if best else 0)

    def _save_model(self, path, weights: list[NDArray] | None = None) -> None:
        tokenizer = self._run.corpus.tokenizer.to_dict()
        save_model(path, self._model, tokenizer, weights)
