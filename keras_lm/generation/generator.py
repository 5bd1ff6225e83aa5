"""Continuing a text: a compiled loop over a cache.

Of the prompt, whole blocks of tokens are read at once; then a loop feeds one token after the other,
first the rest of the prompt, then its own. Each costs the same, and one compilation serves every
prompt, position and sampling setting.
"""

import codecs
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lm.data.tokenizers import Tokenizer
from keras_lm.generation.sampling import Settings, sample_tokens, sampling_settings
from keras_lm.model.backend import tf
from keras_lm.model.language_model import DecodingState, LanguageModel
from keras_lm.model.tracing import traced
from keras_lm.settings.config import GenerationConfig
from keras_lm.settings.variants import POSITIONS

TOKENS_PER_CALL = 256  # at most; usually as many as take CALL_SECONDS, so that text flows
CALL_SECONDS, FIRST_CALL_SECONDS = 0.05, 0.01
SAMPLE = -1  # instead of a token: sample one


class State(NamedTuple):
    """What a model knows after the tokens it has read.

    Attributes:
        logits: (batch, vocab_size), of the next token.
        seen: (batch, vocab_size) booleans, whether the token has occurred.
        kept: what the model keeps of the tokens.
    """

    logits: tf.Tensor
    seen: tf.Tensor
    kept: DecodingState


class Rows(NamedTuple):
    """Texts that are made together, one per row; their tokens are the columns.

    Attributes:
        tokens: (batch, length) int32, of prompts and continuations; SAMPLE where one is to be made.
        draws: (batch, length) from 0 to below 1, what is random about each.
        begins: of each row, the column after its prompt.
        ends: of each row, the column after its last token.
    """

    tokens: np.ndarray
    draws: np.ndarray
    begins: list[int]
    ends: list[int]

    @property
    def length(self) -> int:
        """Columns: the longest text's tokens."""
        return self.tokens.shape[1]

    def made(self, columns: range) -> Iterator[tuple[int, int]]:
        """The tokens of some columns that belong to no prompt, each as (row, token)."""
        for column in columns:
            for row, (begin, end) in enumerate(zip(self.begins, self.ends, strict=True)):
                if begin <= column < end:
                    yield row, int(self.tokens[row, column])


def plan_rows(prompts: Sequence[Sequence[int]], config: GenerationConfig, firsts: range) -> Rows:
    """The texts before the first token is made.

    Args:
        prompts: token ids; an empty prompt begins with a token drawn at random.
        config: length, and the seed of the first row, which grows by 1 from row to row.
        firsts: the tokens of which it is one.

    Example:
        >>> config = GenerationConfig(max_new_tokens=2)
        >>> plan_rows([[4, 2], [7]], config, firsts=range(9)).tokens.tolist()
        [[4, 2, -1, -1], [7, -1, -1, -1]]
    """
    begins = [len(prompt) for prompt in prompts]
    ends = [begin + config.max_new_tokens for begin in begins]
    tokens = np.full((len(prompts), max(ends)), SAMPLE, "int32")
    draws = np.zeros(tokens.shape, "float32")
    for row, (prompt, begin, end) in enumerate(zip(prompts, begins, ends, strict=True)):
        random = np.random.default_rng(config.seed + row)
        tokens[row, :begin] = prompt
        if not prompt:  # nothing to go by yet: no filter may prefer the first rows
            tokens[row, 0] = firsts[random.integers(len(firsts))]
        draws[row, begin:end] = random.random(end - begin, "float32")
    return Rows(tokens, draws, begins, ends)


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

    def _call(self, function: Callable, *arguments: Any) -> Any:
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
        self,
        prompts: Sequence[Sequence[int]],
        config: GenerationConfig,
        firsts: range | None = None,
    ) -> Iterator[tuple[int, int]]:
        """Yields the continuations of several prompts together, token by token.

        All sequences begin at position 0; one with a shorter prompt begins to write while others
        are still being read. Row r is what its prompt alone gives with the seed config.seed + r.

        Args:
            prompts: the last context_length tokens of each count; an empty one begins with a token
                drawn at random.
            config: length and sampling. A model with learned positions, which end with its
                context, reads the last half of the context again from position 0 and goes on.
            firsts: the tokens of which one is drawn for an empty prompt; None: all.

        Yields:
            The prompt's index and a token.
        """
        if not prompts:
            return
        context_length = self.model.config.context_length
        prompts = [list(prompt)[-context_length:] for prompt in prompts]
        rows = plan_rows(prompts, config, firsts or range(self.model.config.vocab_size))
        sampling = sampling_settings(config)
        # Learned positions end with the context, whose last token is followed by one more.
        is_bounded = POSITIONS[self.model.config.positions].has_table
        span = context_length + 1 if is_bounded else rows.length
        origin, known = 0, min(rows.begins)  # the column of position 0; how many are known
        column, state = self._read_beginnings(rows.tokens[:, :known], origin)  # the next to feed
        count = int(FIRST_CALL_SECONDS / self._pace)  # the first token as soon as it is there
        while known < rows.length:
            if column == origin + span:
                origin = known - max(1, context_length // 2)
                column, state = self._read_beginnings(rows.tokens[:, :known], origin)
            count = max(count, known + 1 - column)
            count = min(count, TOKENS_PER_CALL, min(rows.length, origin + span) - column)
            state = self._write_columns(rows, column, count, origin, state, sampling)
            column += count
            yield from rows.made(range(known, column))
            known, count = max(known, column), max(1, int(CALL_SECONDS / self._pace))

    def _write_columns(
        self,
        rows: Rows,
        column: int,
        count: int,
        origin: int,
        state: State,
        sampling: Settings,
    ) -> State:
        """Feeds `count` columns from `column` on, making what is not given; the state after them.

        Args:
            rows: their tokens are filled in.
            column: the first one to feed.
            count: at most TOKENS_PER_CALL.
            origin: the column of position 0.
            state: before them.
            sampling: how tokens are drawn.
        """
        begin = time.perf_counter()
        tokens, state = self._call(
            self._write,
            state,
            tf.constant(_window(rows.tokens, column, count)),
            tf.constant(_window(rows.draws, column, count)),
            tf.constant(count),
            tf.constant(column - origin),
            sampling,
        )
        # (TOKENS_PER_CALL, batch) -> (batch, count)
        rows.tokens[:, column : column + count] = tokens.numpy()[:count].T
        self._pace = (time.perf_counter() - begin) / count
        return state

    def _read_beginnings(self, ids: np.ndarray, origin: int) -> tuple[int, State]:
        """Reads ids (batch, length) from the column `origin` on, where position 0 is.

        Returns:
            The column up to which whole blocks were read, and the state there.
        """
        batch, length = ids.shape
        vocab_size, at_once = self.model.config.vocab_size, self.model.at_once
        num_blocks, most = (length - origin) // at_once, self._most_blocks
        read = origin + num_blocks * at_once
        seen = np.zeros((batch, vocab_size), bool)
        np.put_along_axis(seen, ids[:, :read], True, axis=1)
        logits, kept = self._empty(batch)
        if num_blocks:
            padded = np.pad(ids[:, origin:read], ((0, 0), (0, (most - num_blocks) * at_once)))
            # (batch, most * at_once) -> (batch, most, at_once)
            blocks = tf.constant(padded.reshape(batch, most, at_once))
            logits, kept = self._call(self._read, blocks, tf.constant(num_blocks), logits, kept)
        return read, State(logits, tf.constant(seen), kept)

    @property
    def _most_blocks(self) -> int:
        """Blocks of a prompt that fills the context."""
        return self.model.config.context_length // self.model.at_once

    def _empty_state(self, batch: int) -> tuple[tf.Tensor, DecodingState]:
        """Logits (batch, vocab_size) and the model's state before the first token."""
        logits = tf.zeros((batch, self.model.config.vocab_size))
        return logits, self.model.initial_state(batch)

    def _read_loop(
        self, blocks: tf.Tensor, count: tf.Tensor, logits: tf.Tensor, kept: DecodingState
    ) -> tuple[tf.Tensor, DecodingState]:
        """Feeds the first `count` of the blocks (batch, blocks, at_once) of tokens.

        Returns logits (batch, vocab_size) and the model's state after them.
        """

        def one_block(index, _, kept):
            ids = tf.gather(blocks, index, axis=1)  # (batch, at_once)
            return index + 1, *self.model.decode(ids, kept, index * blocks.shape[2])

        loop = tf.while_loop(lambda index, *_: index < count, one_block, (0, logits, kept))
        return loop[1:]

    def _write_loop(
        self,
        state: State,
        given: tf.Tensor,
        draws: tf.Tensor,
        count: tf.Tensor,
        start: tf.Tensor,
        sampling: Settings,
    ) -> tuple[tf.Tensor, State]:
        """Feeds `count` tokens from position `start` on.

        Args:
            state: before them.
            given: (batch, TOKENS_PER_CALL) tokens; SAMPLE where one is to be made.
            draws: (batch, TOKENS_PER_CALL) from 0 to below 1.
            count: scalar integer.
            start: scalar integer.
            sampling: how tokens are drawn.

        Returns:
            The tokens, (TOKENS_PER_CALL, batch), and the state after them.
        """
        tokens = tf.zeros((TOKENS_PER_CALL, given.shape[0]), tf.int32)

        def one_token(index, state, tokens):
            draw = tf.gather(draws, index, axis=1)  # (batch,)
            sampled = sample_tokens(state.logits, state.seen, sampling, draw)
            wanted = tf.gather(given, index, axis=1)  # (batch,)
            token = tf.where(wanted == SAMPLE, sampled, wanted)
            tokens = tf.tensor_scatter_nd_update(tokens, [[index]], [token])
            seen = state.seen | (tf.range(state.seen.shape[1]) == token[:, None])
            logits, kept = self.model.decode(token[:, None], state.kept, start + index)
            return index + 1, State(logits, seen, kept), tokens

        loop = tf.while_loop(lambda index, *_: index < count, one_token, (0, state, tokens))
        _, state, tokens = loop
        return tokens, state


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
        prompts: any texts; what the vocabulary lacks is left out (`tokenizer.unknown` names it).
        config: length and sampling; prompt r has the seed config.seed + r.
        cancelled: asked before each token; true ends the texts.

    Yields:
        The prompt's index and a piece of its continuation.
    """
    decoders = [codecs.getincrementaldecoder("utf-8")(errors="replace") for _ in prompts]
    beginning = [] if tokenizer.stop is None else [tokenizer.stop]  # of a document
    unfinished = set(range(len(prompts)))
    ids = [tokenizer.encode(prompt) or beginning for prompt in prompts]
    for row, token in generator.stream_all(ids, config, tokenizer.firsts):
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
