"""Generation: the cached loop against full passes, streaming."""

import functools
import time

import numpy as np
import pytest
import tensorflow as tf

from keras_lm.data.tokenizers import CharTokenizer, SeparatedTokenizer, build_tokenizer
from keras_lm.generation import generator as generation
from keras_lm.generation.bundle import Bundle, generate
from keras_lm.generation.generator import (
    Generator,
    stream_text,
)
from keras_lm.model.language_model import build_model
from keras_lm.settings.config import ConfigError, GenerationConfig
from keras_lm.settings.variants import ATTENTIONS

pytestmark = pytest.mark.xla

VOCAB, CONTEXT = 23, 11
GREEDY = {"temperature": 0.0}
ALL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}


@pytest.fixture(scope="module")
def make_generator(small_model, randomize):
    @functools.cache
    def make_model(**changes):
        return randomize(small_model(**changes), stddev=0.6)

    @functools.cache
    def make(jit_compile=False, **changes):
        return Generator(make_model(**changes), jit_compile)

    return make


@functools.cache
def full_pass(model):
    """The model as one program for texts of any length, which is faster than its operations."""
    return tf.function(model, input_signature=[tf.TensorSpec((1, None), tf.int32)])


def continued(generator, prompt, count, **settings):
    return list(generator.stream(prompt, GenerationConfig(max_new_tokens=count, **settings)))


def greedy_by_full_passes(model, prompt, count):
    """Each token is the likeliest after a full pass over the last tokens of the context."""
    ids = list(prompt)
    for _ in range(count):
        logits = np.array(full_pass(model)(np.array([ids[-CONTEXT:]], "int32")))[0, -1]
        best, second = np.sort(logits)[[-1, -2]]
        assert best - second > 1e-4, "a tie: choose another prompt"
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_greedy_tokens_are_those_of_full_passes(make_generator, attention, positions, xla):
    generator = make_generator(xla, attention=attention, positions=positions)
    for prompt in ([7], [3, 22, 0, 5]):
        count = CONTEXT - len(prompt)
        expected = greedy_by_full_passes(generator.model, prompt, count)
        assert continued(generator, prompt, count, **GREEDY) == expected
        assert len(set(expected)) > 2


def test_a_penalty_counts_the_prompt_and_all_that_was_made(make_generator):
    generator, penalty = make_generator(), 1.7
    prompt = [3, 22, 0, 5]
    ids = list(prompt)
    for _ in range(CONTEXT - len(prompt)):
        logits = np.array(generator.model(np.array([ids])))[0, -1]
        repeated = np.unique(ids)
        of_repeated = logits[repeated]
        logits[repeated] = np.where(of_repeated > 0, of_repeated / penalty, of_repeated * penalty)
        ids.append(int(logits.argmax()))
    settings = GREEDY | {"repetition_penalty": penalty}
    assert continued(generator, prompt, CONTEXT - len(prompt), **settings) == ids[len(prompt) :]
    assert ids[len(prompt) :] != continued(generator, prompt, CONTEXT - len(prompt), **GREEDY)


# In one block keys and values depend on their own token alone, so the ring of the last tokens and
# a full pass over the last tokens are the same thing; with more blocks the ring remembers more.
def test_past_the_context_the_last_tokens_count(make_generator):
    generator = make_generator(num_blocks=1)
    prompt = [3, 22, 0, 5]
    expected = greedy_by_full_passes(generator.model, prompt, 3 * CONTEXT)
    assert continued(generator, prompt, 3 * CONTEXT, **GREEDY) == expected
    assert len(set(expected[CONTEXT:])) > 2


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("extra", [0, 1, 20])
def test_of_a_long_prompt_the_last_context_counts(make_generator, small_ids, positions, extra):
    generator = make_generator(positions=positions)
    prompt = small_ids(CONTEXT + extra).tolist()
    tokens = continued(generator, prompt, 3, **ALL)
    assert tokens == continued(generator, prompt[-CONTEXT:], 3, **ALL)
    first = greedy_by_full_passes(generator.model, prompt, 1)
    assert continued(generator, prompt, 1, **GREEDY) == first


def by_full_passes_with_learned_positions(model, prompt, count):
    """As `greedy_by_full_passes`; where the context is full, its last half becomes its beginning.

    The context's last token is followed by one more, of which the passes make one half.
    """
    ids, made = list(prompt)[-CONTEXT:], []
    while len(made) < count:
        made += greedy_by_full_passes(model, ids, CONTEXT + 1 - len(ids))
        ids = (ids + made)[-(CONTEXT // 2) :]
    return made[:count]


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("length", [1, CONTEXT - 1, CONTEXT, CONTEXT + 1])
def test_learned_positions_begin_again_where_the_context_ends(
    monkeypatch, make_generator, small_ids, xla, length
):
    generator = make_generator(xla, positions="learned")
    prompt = small_ids(length).tolist()
    expected = by_full_passes_with_learned_positions(generator.model, prompt, 40)
    for asked in (1, 2, CONTEXT, 40):
        assert continued(generator, prompt, asked, **GREEDY) == expected[:asked]
    generator._pace = 1.0  # so slow that every call makes one token
    monkeypatch.setattr(generation, "CALL_SECONDS", 0.0)
    assert continued(generator, prompt, 40, **GREEDY) == expected


@pytest.mark.parametrize("context_length", [2, 3, 40])
def test_a_text_of_learned_positions_is_as_long_as_asked(small_model, context_length):
    """In a context of 40, the half that is read again has a block of tokens and some more."""
    model = small_model(positions="learned", context_length=context_length)
    generator = Generator(model, jit_compile=False)
    settings = {"seed": 2, "repetition_penalty": 1.5, **ALL}
    whole = continued(generator, [5, 7], 100, **settings)
    assert len(whole) == 100
    prompts, rows = [[5, 7], [], [3] * 90], [[], [], []]
    config = GenerationConfig(max_new_tokens=100, **settings)
    for row, token in generator.stream_all(prompts, config):
        rows[row].append(token)
    assert rows[0] == whole and [len(row) for row in rows] == [100] * 3


def test_the_time_of_compiling_is_known(small_model):
    generator = Generator(small_model(num_blocks=1))
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        continued(generator, [5] * 3, 5)
        seconds.append((generator.compile_seconds, time.perf_counter() - begin))
    assert seconds[0][1] / 2 < seconds[0][0] < seconds[0][1]
    assert seconds[1][0] == seconds[0][0]


@pytest.mark.parametrize("count", [1, 15, 16, 17])
@pytest.mark.parametrize("length", [0, 1, 3])
def test_as_many_tokens_come_as_were_asked_for(monkeypatch, make_generator, count, length):
    monkeypatch.setattr(generation, "TOKENS_PER_CALL", 16)
    generator = make_generator()
    tokens = continued(generator, [5] * length, count, **ALL)
    assert len(tokens) == count
    assert all(0 <= token < VOCAB for token in tokens)
    assert tokens == continued(generator, [5] * length, 40, **ALL)[:count]


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_the_same_seed_gives_the_same_text_and_another_one_another(make_generator, xla):
    generator = make_generator(xla)
    texts = [tuple(continued(generator, [5], 20, seed=seed, **ALL)) for seed in (1, 2, 3, 1, 2, 3)]
    assert texts[:3] == texts[3:]
    assert len(set(texts)) == 3


def test_the_random_numbers_do_not_repeat_from_call_to_call(small_config, monkeypatch):
    monkeypatch.setattr(generation, "TOKENS_PER_CALL", 16)
    generator = Generator(build_model(small_config(zero_init=True)), jit_compile=False)
    tokens = continued(generator, [5], 1 + 3 * 16, **ALL)[-3 * 16 :]
    calls = np.reshape(tokens, (3, 16))
    assert all((calls[one] == calls[one - 1]).mean() < 0.5 for one in range(3))


def test_without_a_prompt_the_first_token_is_drawn_from_all_alike(make_generator):
    settings = {"temperature": 0.1, "top_k": 2, "top_p": 0.1}
    first = [continued(make_generator(), [], 1, seed=seed, **settings)[0] for seed in range(200)]
    assert set(first) == set(range(VOCAB))


def test_one_compilation_of_each_loop_serves_all_prompts_and_settings(small_model):
    generator = Generator(small_model(context_length=37), jit_compile=False)
    for length, settings in ((0, {}), (1, GREEDY), (5, ALL), (40, {"top_k": 3, "seed": 9})):
        for count in (1, 17, 40):
            continued(generator, [5] * length, count, **settings)
    assert generator.compilations == 2


@pytest.mark.parametrize(
    ("mechanism", "xla"),
    [
        *(({"attention": name}, False) for name in ATTENTIONS),
        ({"attention": "linear", "chunk_length": 8}, True),
    ],
)
def test_a_long_prompt_read_in_blocks_gives_the_tokens_of_full_passes(
    make_generator, small_ids, mechanism, xla
):
    generator = make_generator(xla, context_length=53, **mechanism)
    for length in (15, 16, 17, 48, 52):
        prompt = small_ids(length).tolist()
        logits = np.array(generator.model(np.array([prompt])))[0, -1]
        assert continued(generator, prompt, 1, **GREEDY) == [int(logits.argmax())]


@pytest.mark.parametrize(
    "changes",
    [{}, {"positions": "learned"}, {"attention": "linear", "chunk_length": 4}],
    ids=["standard", "learned", "linear"],
)
def test_prompts_of_different_lengths_go_on_together_as_each_alone(
    make_generator, small_ids, changes
):
    generator = make_generator(context_length=37, **changes)
    prompts = [small_ids(length, seed=length).tolist() for length in (33, 18, 35, 60)]
    for chosen in (prompts, [[], *prompts], prompts[:1]):
        config = GenerationConfig(max_new_tokens=9, repetition_penalty=1.1, seed=5, **ALL)
        rows = [[] for _ in chosen]
        for row, token in generator.stream_all(chosen, config):
            rows[row].append(token)
        for row, prompt in enumerate(chosen):
            own = continued(generator, prompt, 9, seed=5 + row, repetition_penalty=1.1, **ALL)
            assert rows[row] == own


def test_a_text_without_a_prompt_begins_with_a_token_that_occurs(make_generator):
    generator, config = make_generator(), GenerationConfig(max_new_tokens=1)
    drawn = {token for _, token in generator.stream_all([[]] * 60, config, range(11, 20))}
    assert min(drawn) == 11 and max(drawn) == 19
    assert build_tokenizer("bpe", "The hat. " * 9, bpe_size=257).firsts == range(256, 257)
    letters = build_tokenizer("bpe", "ab")
    assert letters.decode([letters.firsts[0], letters.firsts[-1]]) == "az"


class Script:
    """Stands for generator and tokenizer: its tokens are given pieces of bytes."""

    def __init__(self, *pieces: bytes):
        self.pieces = pieces
        self.yielded = 0
        self.stop, self.firsts = None, None

    def encode(self, text):
        return []

    def token_bytes(self, id):
        return self.pieces[id]

    def stream_all(self, prompts, config, firsts):
        self.prompts = prompts
        for id in range(len(self.pieces)):
            self.yielded += 1
            yield 0, id


def streamed(script, **arguments):
    return list(stream_text(script, script, "", GenerationConfig(), **arguments))


def test_characters_of_many_bytes_arrive_whole():
    text = "aé日😀\u0301z"
    script = Script(*(bytes([byte]) for byte in text.encode()))
    assert streamed(script) == list(text)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"a", "日".encode()[:2]], ["a", "\ufffd"]),
        ([b"\xff", b"a"], ["\ufffd", "a"]),
        (["日".encode()[:2], b"a"], ["\ufffda"]),
        ([b"", b"a", b""], ["a"]),
        ([], []),
    ],
)
def test_bytes_that_are_no_character_are_shown_as_such(pieces, text):
    assert streamed(Script(*pieces)) == text


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_a_cancelled_text_ends_at_once(tokens):
    script = Script(b"a", b"b", "日".encode(), b"c", b"d")
    answers = iter([False] * tokens + [True])
    assert "".join(streamed(script, cancelled=lambda: next(answers))) == "ab日"[:tokens]
    assert script.yielded == tokens + 1


@pytest.mark.parametrize(("stop", "text", "yielded"), [(0, "", 1), (2, "ab", 3), (None, "abcd", 4)])
def test_a_text_ends_where_the_model_ends_a_document(stop, text, yielded):
    script = Script(b"a", b"b", b"c", b"d")
    script.stop = stop
    assert "".join(streamed(script)) == text and script.yielded == yielded
    assert script.prompts == [[] if stop is None else [stop]]  # at the beginning of one


def test_other_texts_go_on_when_one_has_ended(small_model):
    tokenizer = SeparatedTokenizer(CharTokenizer.from_text("abcdefghijklmnopqrs é😀"), "\n")
    assert tokenizer.vocab_size == VOCAB
    model = small_model(num_blocks=1)
    bundle = Bundle(model, tokenizer, model.config)
    prompts = ["abc", "é😀qrs", "b", ""]
    ids = [tokenizer.encode(prompt) or [tokenizer.stop] for prompt in prompts]
    whole = [
        tokenizer.decode(continued(bundle.generator, row_ids, 60, seed=3 + row, **ALL))
        for row, row_ids in enumerate(ids)
    ]
    expected = [text.partition("\n")[0] for text in whole]
    assert len({len(text) for text in expected}) > 1  # they end at different lengths
    assert generate(bundle, prompts, max_new_tokens=60, seed=3, **ALL) == expected


@pytest.fixture(scope="module")
def bundle(small_model):
    tokenizer = CharTokenizer.from_text("abcdefghijklmnopqrs é😀\n")
    assert tokenizer.vocab_size == VOCAB
    model = small_model(num_blocks=1)
    return Bundle(model, tokenizer, model.config)


def test_generate_returns_the_continuation_of_a_prompt(bundle):
    text = generate(bundle, "abc", max_new_tokens=20, seed=3, **ALL)
    ids = continued(bundle.generator, bundle.tokenizer.encode("abc"), 20, seed=3, **ALL)
    assert text == bundle.tokenizer.decode(ids)
    assert len(text) == 20
    assert bundle.generator is bundle.generator


def test_generate_takes_several_prompts(bundle):
    prompts = ["abc", "", "é😀qrsabc", "abc"]
    texts = generate(bundle, prompts, max_new_tokens=20, seed=3, **ALL)
    alone = [
        generate(bundle, prompt, max_new_tokens=20, seed=3 + row, **ALL)
        for row, prompt in enumerate(prompts)
    ]
    assert texts == alone and texts[0] != texts[3]
    assert generate(bundle, []) == []


def test_characters_that_the_vocabulary_lacks_are_left_out_of_the_prompt(bundle):
    texts = [generate(bundle, prompt, max_new_tokens=20) for prompt in ("abc", "aXb日cY", "X")]
    assert texts[0] == texts[1] != texts[2]
    assert texts[2] == generate(bundle, "", max_new_tokens=20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature must be between 0 and 10, but got -0.1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be between 1 and"),
        ({"length": 5}, "GenerationConfig has no field 'length'; remove it"),
    ],
)
def test_a_bad_setting_is_refused_in_a_sentence(bundle, settings, message):
    with pytest.raises(ConfigError, match=message):
        generate(bundle, "abc", **settings)
