"""Associative recall: how far back each attention finds the value that followed a key.

    python -m benchmarks.recall [--seeds 3]

A sequence of 128 tokens has eight facts among blanks, each a token that stands for one of 16 keys
and one of 16 values; later each key is asked for once, and its value must follow. How much later is
drawn so that every doubling of the distance is as likely. New facts are drawn for every
sequence, so nothing can be learned by heart; only the answers are trained. `linear` and its window
alone (its slots switched off) have chunks of 8 tokens, so the window sees all that is up to 8
tokens back, nothing that is more than 15. Chance is 1/16, or 1/8 for a
model that knows which values occur.
"""

import argparse
import dataclasses
import statistics

import numpy as np

from benchmarks.quality import ATTENTIONS, MODEL, TRAINING, WINDOW, shut_slots

LENGTH, NUM_FACTS = 128, 8
NUM_KEYS = NUM_VALUES = 16
# Ids: values, then questions, then facts, then the blank.
FIRST_QUESTION, FIRST_FACT = NUM_VALUES, NUM_VALUES + NUM_KEYS
BLANK = FIRST_FACT + NUM_KEYS * NUM_VALUES
STEPS, BATCH_SIZE, TEST_SEQUENCES = 1000, 32, 2048
DISTANCES = (2, 8, 16, 32, 64, 128)  # tokens; edges of the table's columns
SHAPE = {"context_length": LENGTH, "d_model": 64, "num_heads": 4, "num_blocks": 2, "ffn_dim": 256}
OF_LINEAR = {"chunk_length": 8, "num_slots": 32}


def draw_sequences(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (count, LENGTH + 1), and for each answer how far before it its fact was, else 0."""
    generator = np.random.default_rng(seed)
    tokens = np.full((count, LENGTH + 1), BLANK, "int32")
    distances = np.zeros_like(tokens)
    for row in range(count):
        keys, values = generator.permutation(NUM_KEYS), generator.permutation(NUM_VALUES)
        for key, value in zip(keys[:NUM_FACTS], values[:NUM_FACTS], strict=True):
            fact, question = draw_positions(generator, tokens[row])
            tokens[row, fact] = FIRST_FACT + NUM_VALUES * key + value
            tokens[row, question : question + 2] = FIRST_QUESTION + key, value
            distances[row, question + 1] = question - fact
    return tokens, distances


def draw_positions(generator: np.random.Generator, sequence: np.ndarray) -> tuple[int, int]:
    """Positions for a fact and, further on, for its question and answer, that are still blank."""
    while True:
        distance = int(np.exp(generator.uniform(np.log(DISTANCES[0]), np.log(LENGTH - 1))))
        fact = int(generator.integers(LENGTH - distance))
        positions = [fact, fact + distance, fact + distance + 1]
        if (sequence[positions] == BLANK).all():
            return fact, fact + distance


def train(attention: str, seed: int):
    """A model that has learned to answer on sequences never seen twice."""
    import keras
    import tensorflow as tf

    from keras_lm.model.language_model import build_model
    from keras_lm.training.optimizers import create_optimizer
    from keras_lm.training.train_step import STEPS_PER_CALL, CompiledSteps

    class AnswersOnly(CompiledSteps):
        def _loss(self, inputs, targets, training):
            return super()._loss(inputs, tf.where(targets < NUM_VALUES, targets, -1), training)

    keras.utils.set_random_seed(seed)
    is_window = attention == WINDOW
    config = dataclasses.replace(
        MODEL,
        vocab_size=BLANK + 1,
        attention="linear" if is_window else attention,
        **SHAPE,
        **OF_LINEAR,
    )
    model = build_model(config)
    if is_window:
        shut_slots(model)
    tokens, _ = draw_sequences(STEPS * BATCH_SIZE, seed)
    recipe = dataclasses.replace(TRAINING, steps=STEPS)
    training = AnswersOnly(model, create_optimizer(recipe, model), tokens.ravel())
    offsets = np.arange(0, tokens.size, LENGTH + 1).reshape(STEPS, BATCH_SIZE)
    for start in range(0, STEPS, STEPS_PER_CALL):
        training.train_steps(offsets[start : start + STEPS_PER_CALL])
    return model


def accuracies(model, seed: int) -> list[float]:
    """How often the likeliest token is the value asked for, per range of DISTANCES."""
    tokens, distances = draw_sequences(TEST_SEQUENCES, seed)
    logits = model.predict(tokens[:, :-1], batch_size=64, verbose=0)
    right = logits.argmax(axis=-1) == tokens[:, 1:]
    back = distances[:, 1:]
    ranges = zip(DISTANCES[:-1], DISTANCES[1:], strict=True)
    return [float(right[(back >= low) & (back < high)].mean()) for low, high in ranges]


def main() -> None:
    """Prints the table: median over seeds, and the worst seed where they differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    ranges = [f"{a} to {b - 1}" for a, b in zip(DISTANCES[:-1], DISTANCES[1:], strict=True)]
    print("| distance in tokens | " + " | ".join(ranges) + " |")
    print("|---" * (len(ranges) + 1) + "|")
    for attention in ATTENTIONS:
        seeds = range(1, arguments.seeds + 1)
        results = [accuracies(train(attention, seed), 1000 + seed) for seed in seeds]
        cells = [
            f"{statistics.median(column):.2f} ({min(column):.2f} to {max(column):.2f})"
            for column in zip(*results, strict=True)
        ]
        print(f"| {attention} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
