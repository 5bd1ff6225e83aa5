"""What each attention learns as a language model, at equal steps and at equal seconds.

    python -m benchmarks.quality [--texts moby-dick] [--table]

Measures the seconds per step first (leave the machine alone), then trains; every result is a row of
`quality.csv` at once, and what is there is not done again. `--table` prints the tables alone. The
budget of seconds is what the fastest of the three takes for STEPS steps at that context. "window"
is `linear` with its slots switched off.
"""

import argparse
import dataclasses
import time
from pathlib import Path

from benchmarks.results import Rows
from keras_lm.settings import variants
from keras_lm.settings.config import DataConfig, ModelConfig, TrainingConfig

COLUMNS = ("measure", "text", "context", "attention", "budget", "steps", "seed", "value")
ROWS = Rows(Path(__file__).with_name("quality.csv"), COLUMNS)
TEXTS = ("moby-dick", "sense-and-sensibility")
CONTEXTS = (256, 1024, 2048)
SEEDS = range(1, 6)
STEPS = 200
TOKENS_PER_STEP = 2048
WINDOW = "window"
ATTENTIONS = (*variants.ATTENTIONS, WINDOW)
MODEL = ModelConfig(
    num_blocks=2, activation="relu2", qk_norm=True, logit_soft_cap=15.0, zero_init=True
)
TRAINING = TrainingConfig(
    steps=STEPS,
    optimizer="muon",
    learning_rate=5e-3,
    min_learning_rate=0.0,
    warmup_steps=20,
    schedule="trapezoid",
    weight_decay=0.01,
)
TIMED_CALLS = 5


class Experiment:
    """One compiled training, run again for every seed.

    Args:
        text: a built-in one.
        context: tokens.
        attention: one of ATTENTIONS.
        steps: of a run.
    """

    def __init__(self, text: str, context: int, attention: str, steps: int):
        from keras_lm.data import corpus

        self.is_window = attention == WINDOW
        self.corpus = corpus.prepare(DataConfig(data=text), context)
        self.model_config = dataclasses.replace(
            MODEL,
            vocab_size=self.corpus.tokenizer.vocab_size,
            context_length=context,
            attention="linear" if self.is_window else attention,
        )
        self.training_config = dataclasses.replace(
            TRAINING, steps=steps, batch_size=TOKENS_PER_STEP // context
        )
        self.training = None

    def reset(self, seed: int) -> None:
        """Fresh weights; all else as before the first step."""
        import keras

        from keras_lm.model.language_model import build_model
        from keras_lm.training.optimizers import create_optimizer
        from keras_lm.training.train_step import CompiledSteps
        from keras_lm.training.windows import WindowOrder

        keras.utils.set_random_seed(seed)
        model = build_model(self.model_config)
        if self.is_window:
            shut_slots(model)
        if self.training is None:
            optimizer = create_optimizer(self.training_config, model)
            self.optimizer_start = [variable.numpy() for variable in optimizer.variables]
            self.training = CompiledSteps(model, optimizer, self.corpus.train)
        else:
            self.training.model.set_weights(model.get_weights())
            pairs = zip(self.training.optimizer.variables, self.optimizer_start, strict=True)
            for variable, value in pairs:
                variable.assign(value)
        self.order = WindowOrder(len(self.corpus.train), self.model_config.context_length, seed)

    def train(self, first_step: int, last_step: int) -> None:
        """Updates first_step to last_step - 1."""
        import numpy as np

        from keras_lm.training.train_step import STEPS_PER_CALL

        batch_size = self.training_config.batch_size
        for start in range(first_step, last_step, STEPS_PER_CALL):
            steps = range(start, min(start + STEPS_PER_CALL, last_step))
            offsets = np.stack([self.order.offsets(step, batch_size) for step in steps])
            self.training.train_steps(offsets)

    def validation_loss(self, seed: int) -> float:
        """Nats per token on the text's last tenth, after a whole run."""
        self.reset(seed)
        self.train(0, self.training_config.steps)
        batch_size = self.training_config.batch_size
        return self.training.validate(self.corpus.validation, batch_size).loss

    def step_seconds(self) -> float:
        """Seconds per step of the fastest of some compiled calls."""
        from keras_lm.training.train_step import STEPS_PER_CALL

        self.reset(seed=0)
        self.train(0, STEPS_PER_CALL)
        seconds = []
        for _ in range(TIMED_CALLS):
            begin = time.perf_counter()
            self.train(0, STEPS_PER_CALL)
            seconds.append(time.perf_counter() - begin)
        return min(seconds) / STEPS_PER_CALL


def shut_slots(model) -> None:
    """Leaves `linear` its window alone: slots of no weight, which are not trained."""
    from keras import ops

    from keras_lm.model.attention.base import MASKED

    for block in model.blocks:
        slots = block.attention.slots
        slots.gate.assign(ops.full_like(slots.gate, MASKED))
        slots.trainable = False


def measure_times() -> dict[tuple[int, str], float]:
    """Seconds per step for every context and attention, measured where they are not known."""
    rows = ROWS.read().query("measure == 'step_seconds'")
    times = {(row.context, row.attention): row.value for row in rows.itertuples()}
    for context in CONTEXTS:
        for attention in ATTENTIONS:
            if (context, attention) not in times:
                seconds = Experiment(TEXTS[0], context, attention, STEPS).step_seconds()
                times[context, attention] = seconds
                ROWS.keep(
                    "step_seconds", TEXTS[0], context, attention, "", "", "", round(seconds, 5)
                )
    return times


def fastest(times: dict[tuple[int, str], float], context: int) -> str:
    """Which of the three takes the least time per step."""
    return min((name for name in ATTENTIONS if name != WINDOW), key=lambda n: times[context, n])


def plan(times: dict[tuple[int, str], float]) -> list[tuple[int, str, str, int]]:
    """Context, attention, budget and steps of everything that is trained."""
    found = []
    for context in CONTEXTS:
        quickest = fastest(times, context)
        for attention in ATTENTIONS:
            if attention == WINDOW and context == CONTEXTS[0]:
                continue  # hardly longer than two chunks: the slots have little to add
            found.append((context, attention, "steps", STEPS))
            if attention not in (WINDOW, quickest):
                ratio = times[context, quickest] / times[context, attention]
                found.append((context, attention, "seconds", round(STEPS * ratio)))
    # At equal steps flash learns what standard learns, to the last digit: least to be learnt there.
    return sorted(found, key=lambda row: row[1:3] == ("flash", "steps"))


def measure_losses(texts: tuple[str, ...], times: dict[tuple[int, str], float]) -> None:
    """Trains what is missing, seed after seed."""
    rows = ROWS.read().query("measure == 'loss'")
    done = {(r.text, r.context, r.attention, r.budget, int(r.seed)) for r in rows.itertuples()}
    for text in texts:
        for context, attention, budget, steps in plan(times):
            run = (text, context, attention, budget)
            missing = [seed for seed in SEEDS if (*run, seed) not in done]
            experiment = Experiment(text, context, attention, steps) if missing else None
            for seed in missing:
                loss = round(experiment.validation_loss(seed), 4)
                ROWS.keep("loss", *run, steps, seed, loss)


def print_tables() -> None:
    """Mean and spread over seeds, one table per budget."""
    results = ROWS.read()
    times = results.query("measure == 'step_seconds'")
    known = {(row.context, row.attention): row.value for row in times.itertuples()}
    print("Milliseconds per step:\n\n| context | " + " | ".join(ATTENTIONS) + " |")
    print("|---|" + "---|" * len(ATTENTIONS))
    for context, group in times.groupby("context"):
        by_name = group.set_index("attention")["value"]
        print(
            f"| {context:,} | " + " | ".join(f"{1e3 * by_name[a]:.0f}" for a in ATTENTIONS) + " |"
        )
    losses = results.query("measure == 'loss'")
    for budget in ("steps", "seconds"):
        is_chosen = losses.budget == budget
        if budget == "seconds":  # the fastest one's run is the same in both
            is_chosen |= losses.attention == losses.context.map(lambda c: fastest(known, c))
        chosen = losses[is_chosen]
        names = [name for name in ATTENTIONS if name in set(chosen.attention)]
        print(f"\nValidation loss at equal {budget}, mean ± standard deviation of the seeds:\n")
        print("| text | context | " + " | ".join(names) + " |")
        print("|---|---|" + "---|" * len(names))
        for (text, context), group in chosen.groupby(["text", "context"]):
            by_name = group.groupby("attention")["value"]
            mean, spread = by_name.mean(), by_name.std()
            steps = group.groupby("attention")["steps"].first()
            cells = [
                f"{mean[name]:.3f} ± {spread[name]:.3f}"
                + (f" ({int(steps[name])})" if budget == "seconds" else "")
                if name in mean
                else ""
                for name in names
            ]
            print(f"| {text} | {context:,} | " + " | ".join(cells) + " |")


def main() -> None:
    """Measures what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", nargs="*", default=TEXTS, choices=TEXTS)
    parser.add_argument("--table", action="store_true", help="print the tables alone")
    arguments = parser.parse_args()
    if not arguments.table:
        measure_losses(tuple(arguments.texts), measure_times())
    print_tables()


if __name__ == "__main__":
    main()
