"""Registers the variants; `KERAS_LM_VARIANTS=tests.variants.registered` does so in any process."""

from keras_lm.settings.variants import register
from tests.variants import VARIANTS

for variant in VARIANTS:
    register(variant)
