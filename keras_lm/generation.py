"""Continuing a text: samplers, and a compiled loop over a cache.

The loop feeds one token after the other, first those of the prompt, then its own; each costs the
same, and one compilation serves every prompt, position and sampling setting.
"""

import codecs
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from keras_lm.config import GenerationConfig

if TYPE_CHECKING:
    from keras_lm.bundle import Bundle
    from keras_lm.model import LanguageModel
    from keras_lm.tokenizer import Tokenizer

TOKENS_PER_CALL = 16
SAMPLE = -1  # in the place of a given token: sample one


def penalize(logits, seen, repetition_penalty) -> tf.Tensor:
    """Logits with the tokens that have occurred made less likely (CTRL, 1909.05858).

    Args:
        logits: (batch, vocab_size).
        seen: (batch, vocab_size) booleans, whether the token has occurred.
        repetition_penalty: scalar; positive logits are divided by it, others multiplied; 1: none.
    """
    penalized = tf.where(logits > 0, logits / repetition_penalty, logits * repetition_penalty)
    return tf.where(seen, penalized, logits)


def filtered_probabilities(logits, temperature, top_k, top_p, min_p) -> tuple[tf.Tensor, tf.Tensor]:
    """The distribution to sample from, likeliest token first.

    Args:
        logits: (batch, vocab_size).
        temperature: scalar; 0 leaves the likeliest token only.
        top_k: scalar integer; only the k likeliest; 0 for all.
        top_p: scalar; only the fewest whose probabilities reach p; the likeliest always stays
            (nucleus sampling, https://arxiv.org/abs/1904.09751).
        min_p: scalar; only those at least min_p times as likely as the likeliest
            (https://arxiv.org/abs/2407.01082); 0 for all.

    Returns:
        Probabilities, falling, and the token ids they belong to, both (batch, vocab_size).
    """
    vocab_size = logits.shape[-1]
    sorted_logits, ids = tf.math.top_k(logits, vocab_size)
    probabilities = tf.nn.softmax(sorted_logits / tf.maximum(temperature, 1e-6))
    rank = tf.range(vocab_size)
    kept = (rank < tf.where(top_k > 0, top_k, vocab_size)) | (rank == 0)
    probabilities = tf.where(kept, probabilities, 0.0)
    probabilities /= tf.reduce_sum(probabilities, -1, keepdims=True)
    before = tf.cumsum(probabilities, -1, exclusive=True)
    is_likely = probabilities >= min_p * probabilities[:, :1]
    kept = ((before < top_p) & is_likely & (temperature > 0)) | (rank == 0)
    probabilities = tf.where(kept, probabilities, 0.0)
    return probabilities / tf.reduce_sum(probabilities, -1, keepdims=True), ids


def sample_tokens(logits, temperature, top_k, top_p, min_p, seed) -> tf.Tensor:
    """One token a row, by inverting the cumulative distribution.

    Args:
        logits: (batch, vocab_size).
        temperature, top_k, top_p, min_p: as for `filtered_probabilities`.
        seed: (2,) integers; the same give the same tokens.

    Returns:
        (batch,) int32.
    """
    probabilities, ids = filtered_probabilities(logits, temperature, top_k, top_p, min_p)
    draw = tf.random.stateless_uniform((tf.shape(logits)[0], 1), seed, alg="philox")
    # Ranks whose cumulative probability the draw has passed; rounding must not pass the last one.
    passed = tf.cast(tf.cumsum(probabilities, -1) <= draw, tf.int32)
    last = tf.reduce_sum(tf.cast(probabilities > 0, tf.int32), -1) - 1
    rank = tf.minimum(tf.reduce_sum(passed, -1), last)
    return tf.gather(ids, rank, batch_dims=1)


class Generator:
    """Generates with one model; compiles at the first use.

    Args:
        model: a built LanguageModel.
        jit_compile: whether XLA compiles the loop.
    """

    def __init__(self, model: "LanguageModel", jit_compile: bool = True):
        self.model = model
        self._advance = tf.function(
            self._loop, jit_compile=jit_compile, reduce_retracing=True, autograph=False
        )

    def stream(self, prompt_ids: list[int], config: GenerationConfig) -> Iterator[int]:
        """Yields the continuation token by token.

        Args:
            prompt_ids: the prompt; an empty one begins with a token drawn from all alike. Only the
                last context_length count.
            config: length and sampling. A model with learned positions stops where its context
                ends.
        """
        context_length = self.model.config.context_length
        prompt = list(prompt_ids)[-context_length:]
        room = config.max_new_tokens
        if self.model.config.positions == "learned":
            room = min(room, max(1, context_length - len(prompt) + 1))
        plan = np.array(prompt + [SAMPLE] * room, "int32")
        vocab_size = self.model.config.vocab_size
        if not prompt:  # nothing to go by yet: no filter may prefer the first rows
            plan[0] = np.random.default_rng(config.seed).integers(vocab_size)
        nothing_seen = tf.zeros((1, vocab_size), tf.bool)
        state = (tf.zeros((1, vocab_size)), nothing_seen, self.model.initial_states(1))
        sampling = (
            tf.constant(config.temperature, tf.float32),
            tf.constant(config.top_k),
            tf.constant(config.top_p, tf.float32),
            tf.constant(config.min_p, tf.float32),
            tf.constant(config.repetition_penalty, tf.float32),
            tf.constant(config.seed),
        )
        for start in range(0, len(plan), TOKENS_PER_CALL):
            given = plan[start : start + TOKENS_PER_CALL]
            padded = np.pad(given, (0, TOKENS_PER_CALL - len(given)))
            tokens, state = self._advance(
                state,
                tf.constant(padded),
                tf.constant(len(given)),
                tf.constant(start),
                sampling,
            )
            for place, token in enumerate(tokens.numpy()[: len(given), 0], start):
                if place >= len(prompt):
                    yield int(token)

    def _loop(self, state, given, count, start, sampling):
        """Feeds `count` tokens from position `start` on; returns them, (TOKENS_PER_CALL, batch)."""
        logits, seen, block_states = state
        *filters, repetition_penalty, seed = sampling
        tokens = tf.zeros((TOKENS_PER_CALL, logits.shape[0]), tf.int32)

        def one_token(index, logits, seen, block_states, tokens):
            position = start + index
            penalized = penalize(logits, seen, repetition_penalty)
            sampled = sample_tokens(penalized, *filters, tf.stack([seed, position]))
            token = tf.where(given[index] == SAMPLE, sampled, given[index])
            tokens = tf.tensor_scatter_nd_update(tokens, [[index]], [token])
            seen |= tf.range(seen.shape[1]) == token[:, None]
            logits, block_states = self.model.decode(token, block_states, position)
            return index + 1, logits, seen, block_states, tokens

        _, logits, seen, block_states, tokens = tf.while_loop(
            lambda index, *_: index < count, one_token, (0, logits, seen, block_states, tokens)
        )
        return tokens, (logits, seen, block_states)


def stream_text(
    generator: Generator,
    tokenizer: "Tokenizer",
    prompt: str,
    config: GenerationConfig,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """Yields the continuation of `prompt` in pieces of text, never half a character.

    Args:
        generator: of the model.
        tokenizer: of the model.
        prompt: any text; what the vocabulary lacks is left out (`tokenizer.unknown` tells).
        config: length and sampling.
        cancelled: asked before each token; true ends the text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in generator.stream(tokenizer.encode(prompt), config):
        if cancelled():
            break
        if piece := decoder.decode(tokenizer.token_bytes(token)):
            yield piece
    if rest := decoder.decode(b"", final=True):
        yield rest


def generate(bundle: "Bundle", prompt: str, **settings) -> str:
    """Continues `prompt`.

    Args:
        bundle: what `keras_lm.load` gives.
        prompt: any text.
        **settings: fields of GenerationConfig: max_new_tokens, temperature, top_k, top_p, min_p,
            repetition_penalty, seed.

    Returns:
        The continuation, without the prompt.

    Raises:
        ConfigError: when a setting is out of its range.
    """
    config = GenerationConfig.from_dict(settings)
    return "".join(stream_text(bundle.generator, bundle.tokenizer, prompt, config))
