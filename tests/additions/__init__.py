"""A tokenizer, an optimizer and a text that the product does not have, as
docs/extending.md adds them."""

from pathlib import Path

from keras_lm.data.texts import Text
from keras_lm.settings.variants import Optimizer, Tokenizer

WORDS = Tokenizer(
    "words",
    "Words",
    "makes every word a token, and every sign between words.",
    "tests.additions.words:WordTokenizer",
)
SGD = Optimizer(
    "sgd",
    "SGD",
    "is plain gradient descent with momentum.",
    "tests.additions.training:sgd",
)
RHYME = Text("Green Bottles, Anonymous", (str(Path(__file__).with_name("rhyme.txt")),))
