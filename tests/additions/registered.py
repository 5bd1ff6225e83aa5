"""`KERAS_LM_VARIANTS=tests.additions.registered` registers the variants in any process."""

from keras_lm.settings.variants import register
from tests.additions import SGD, WORDS

for variant in (WORDS, SGD):
    register(variant)
