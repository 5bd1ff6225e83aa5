"""Continuing a text: a compiled loop over a cache.

Of the prompt, whole blocks of tokens are read at once; then a loop feeds one token after the other,
first the rest of the prompt, then its own. Each costs the same, and one compilation serves every
prompt, position and sampling setting.
"""

import codecs
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from keras_lm.data.tokenizers import Tokenizer
from keras_lm.generation.sampling import sample_tokens, sampling_settings
from keras_lm.model.backend import tf
from keras_lm.model.language_model import LanguageModel
from keras_lm.model.tracing import traced
from keras_lm.settings.config import GenerationConfig
from keras_lm.settings.variants import POSITIONS

TOKENS_PER_CALL = 256  # at most; as many as take CALL_SECONDS, so that text flows and Stop stops
CALL_SECONDS, FIRST_CALL_SECONDS = 0.05, 0.01
SAMPLE = -1  # in the place of a given token: sample one


class Generator:
    """Generates with one model; compiles at the first use.

    Args:
        model: a built LanguageModel.
        jit_compile: whether XLA compiles the loops.
    """

    def __init__(self, model: LanguageModel, jit_compile: bool = True):
        self.model = model
        self.compile_seconds = 0.0  # of all calls so far that compiled
        self._pace = math.inf  # seconds per token of the last call
        self._empty = traced(self._empty_state)
        self._read = traced(self._read_loop, jit_compile)
        self._write = traced(self._write_loop, jit_compile)

    @property
    def compilations(self) -> int:
        """How many programs have been compiled: two at most for each number of sequences."""
        functions = (self._read, self._write)
        return sum(function.experimental_get_tracing_count() for function in functions)

    def _call(self, function: Callable, *arguments):
        """Calls one of the two programs, and counts the time when that compiled it."""
        compilations, begin = self.compilations, time.perf_counter()
        result = function(*arguments)
        if self.compilations > compilations:
            self.compile_seconds += time.perf_counter() - begin
        return result

    def stream(self, prompt_ids: Sequence[int], config: GenerationConfig) -> Iterator[int]:
        """Yields the continuation of one prompt token by token; the rest is as for `stream_all`."""
        for _, token in self.stream_all([prompt_ids], config):
            yield token

    def stream_all(
        self, prompts: Sequence[Sequence[int]], config: GenerationConfig
    ) -> Iterator[tuple[int, int]]:
        """Yields the continuations of several prompts together, token by token.

        All sequences begin at position 0; one with a shorter prompt begins to write while others
        are still being read. Row r is what its prompt alone gives with the seed config.seed + r.

        Args:
            prompts: the last context_length tokens of each count; an empty one begins with a token
                drawn from all alike.
            config: length and sampling. A model with learned positions, which end with its
                context, reads the last half of the context again from position 0 and goes on.

        Yields:
            The prompt's index and a token.
        """
        if not prompts:
            return
        context_length = self.model.config.context_length
        prompts = [list(prompt)[-context_length:] for prompt in prompts]
        begins = [len(prompt) for prompt in prompts]
        ends = [begin + config.max_new_tokens for begin in begins]
        given = np.full((len(prompts), max(ends)), SAMPLE, "int32")
        draws = np.zeros(given.shape, "float32")
        for row, (prompt, begin, end) in enumerate(zip(prompts, begins, ends, strict=True)):
            random = np.random.default_rng(config.seed + row)
            given[row, :begin] = prompt
            if not prompt:  # nothing to go by yet: no filter may prefer the first rows
                given[row, 0] = random.integers(self.model.config.vocab_size)
            draws[row, begin:end] = random.random(end - begin, "float32")
        sampling = sampling_settings(config)
        # Learned positions end with the context, whose last token is followed by one more.
        is_bounded = POSITIONS[self.model.config.positions].has_table
        span = context_length + 1 if is_bounded else max(ends)
        origin, made = 0, min(begins)  # where position 0 is; how many columns are known
        start, state = self._read_beginnings(given[:, :made], origin)
        count = int(FIRST_CALL_SECONDS / self._pace)  # the first token as soon as it is there
        while made < max(ends):
            if start == origin + span:
                origin = made - max(1, context_length // 2)
                start, state = self._read_beginnings(given[:, :made], origin)
            count = max(count, made + 1 - start)
            count = min(count, TOKENS_PER_CALL, min(max(ends), origin + span) - start)
            called = time.perf_counter()
            tokens, state = self._call(
                self._write,
                state,
                *(tf.constant(_window(x, start, count)) for x in (given, draws)),
                tf.constant(count),
                tf.constant(start - origin),
                sampling,
            )
            given[:, start : start + count] = tokens.numpy()[:count].T
            self._pace = (time.perf_counter() - called) / count
            start += count
            for column in range(made, start):
                for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
                    if begin <= column < end:
                        yield row, int(given[row, column])
            made, count = max(made, start), max(1, int(CALL_SECONDS / self._pace))

    def _read_beginnings(self, ids: np.ndarray, origin: int) -> tuple[int, tuple]:
        """Reads ids (batch, length) from the column `origin` on, where position 0 is.

        Returns:
            The column up to which whole blocks were read, and the state there.
        """
        model, (batch, length) = self.model, ids.shape
        vocab_size, at_once = model.config.vocab_size, model.at_once
        num_blocks, most = (length - origin) // at_once, model.config.context_length // at_once
        read = origin + num_blocks * at_once
        seen = np.zeros((batch, vocab_size), bool)
        np.put_along_axis(seen, ids[:, :read], True, axis=1)
        logits, states = self._empty(batch)
        if num_blocks:
            padded = np.pad(ids[:, origin:read], ((0, 0), (0, (most - num_blocks) * at_once)))
            blocks = tf.constant(padded.reshape(batch, most, at_once))
            logits, states = self._call(self._read, blocks, tf.constant(num_blocks), logits, states)
        return read, (logits, tf.constant(seen), states)

    def _empty_state(self, batch: int) -> tuple:
        """Logits and the blocks' states before the first token."""
        logits = tf.zeros((batch, self.model.config.vocab_size))
        return logits, self.model.initial_states(batch)

    def _read_loop(self, blocks, count, logits, states):
        """Feeds the first `count` of the blocks (batch, blocks, at_once) of tokens."""

        def one_block(index, _, states):
            ids = tf.gather(blocks, index, axis=1)
            return index + 1, *self.model.decode(ids, states, index * blocks.shape[2])

        loop = tf.while_loop(lambda index, *_: index < count, one_block, (0, logits, states))
        return loop[1:]

    def _write_loop(self, state, given, draws, count, start, sampling):
        """Feeds `count` tokens from position `start` on; returns them, (TOKENS_PER_CALL, batch)."""
        logits, seen, block_states = state
        tokens = tf.zeros((TOKENS_PER_CALL, logits.shape[0]), tf.int32)

        def one_token(index, logits, seen, block_states, tokens):
            sampled = sample_tokens(logits, seen, sampling, tf.gather(draws, index, axis=1))
            wanted = tf.gather(given, index, axis=1)
            token = tf.where(wanted == SAMPLE, sampled, wanted)
            tokens = tf.tensor_scatter_nd_update(tokens, [[index]], [token])
            seen |= tf.range(seen.shape[1]) == token[:, None]
            logits, block_states = self.model.decode(token[:, None], block_states, start + index)
            return index + 1, logits, seen, block_states, tokens

        _, logits, seen, block_states, tokens = tf.while_loop(
            lambda index, *_: index < count, one_token, (0, logits, seen, block_states, tokens)
        )
        return tokens, (logits, seen, block_states)


def _window(x: np.ndarray, start: int, count: int) -> np.ndarray:
    """`count` columns of x (batch, length), filled up to TOKENS_PER_CALL."""
    return np.pad(x[:, start : start + count], ((0, 0), (0, TOKENS_PER_CALL - count)))


def stream_texts(
    generator: Generator,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    config: GenerationConfig,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, str]]:
    """Yields the continuations of several prompts in pieces of text, never half a character.

    A text ends where the model ends a document, if the training text has separators.

    Args:
        generator: of the model.
        tokenizer: of the model.
        prompts: any texts; what the vocabulary lacks is left out (`tokenizer.unknown` tells).
        config: length and sampling; prompt r has the seed config.seed + r.
        cancelled: asked before each token; true ends the texts.

    Yields:
        The prompt's index and a piece of its continuation.
    """
    decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in prompts]
    beginning = [] if tokenizer.stop is None else [tokenizer.stop]  # of a document
    unfinished = set(range(len(prompts)))
    ids = [tokenizer.encode(prompt) or beginning for prompt in prompts]
    for row, token in generator.stream_all(ids, config):
        if token == tokenizer.stop:
            unfinished.discard(row)
        if cancelled() or not unfinished:
            break
        if row not in unfinished:
            continue
        if piece := decoders[row].decode(tokenizer.token_bytes(token)):
            yield row, piece
    for row, decoder in enumerate(decoders):
        if rest := decoder.decode(b"", final=True):
            yield row, rest


def stream_text(
    generator: Generator,
    tokenizer: Tokenizer,
    prompt: str,
    config: GenerationConfig,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """Yields the continuation of one prompt in pieces; arguments as for `stream_texts`."""
    for _, piece in stream_texts(generator, tokenizer, [prompt], config, cancelled):
        yield piece
