"""A block with FlashAttention in a plain Keras model, which learns to count."""

import keras
import numpy as np

from keras_lm import FlashAttention

ids = keras.Input((None,), dtype="int32")  # (batch, length)
x = keras.layers.Embedding(20, 32)(ids)  # (batch, length, 32)
x = x + FlashAttention(num_heads=4, dropout=0.1)(keras.layers.LayerNormalization()(x))
x = x + keras.layers.Dense(32)(keras.layers.Dense(64, "gelu")(keras.layers.LayerNormalization()(x)))
model = keras.Model(ids, keras.layers.Dense(20, dtype="float32")(x))  # (batch, length, 20)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01), loss)

windows = (np.arange(200)[:, None] + np.arange(9)) % 20  # (200, 9): 0 1 2 ..., 1 2 3 ..., ...
history = model.fit(windows[:, :-1], windows[:, 1:], epochs=5, verbose=0).history
print("Loss per epoch:", *(f"{loss:.2f}" for loss in history["loss"]))
