"""A tour in the manner of a notebook: train, plot, generate, inspect, keep."""

import altair
import keras
import numpy as np
import pandas
import tensorflow as tf

import keras_lm

# A text, its tokens, and a data set of windows: inputs, and the tokens that follow them.
text = "the cat sat on the mat, and the dog sat on the log. " * 40
tokenizer = keras_lm.CharTokenizer.from_text(text)
data = tf.data.Dataset.from_tensor_slices(tokenizer.encode(text)).batch(17, drop_remainder=True)
data = data.map(lambda ids: (ids[:-1], ids[1:])).shuffle(200, seed=1).batch(8, drop_remainder=True)

# Train.
config = keras_lm.ModelConfig(
    tokenizer.vocab_size, context_length=16, d_model=32, num_blocks=1, ffn_dim=64, attention="flash"
)
model = keras_lm.LanguageModel(config, tokenizer.to_dict())
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
history = model.fit(data, epochs=10, shuffle=False, verbose=0).history

# Plot.
curve = pandas.DataFrame(history).rename_axis("epoch").reset_index()
altair.Chart(curve).mark_line().encode(x="epoch", y="loss").save("curve.png")

# Keep it and take it up again: safe on any file. Then let it write.
model.save("tour.keras")
bundle = keras_lm.load("tour.keras")
print(keras_lm.generate(bundle, "the cat ", max_new_tokens=40, temperature=0.5, seed=1))

# Inspect: how likely each character of a text was for the model.
ids = np.array(tokenizer.encode("the dog sat"))
probabilities = keras.ops.softmax(bundle.model(ids[None]))[0]  # (length, vocab_size)
for row, token in enumerate(ids[1:]):
    print(repr(tokenizer.decode([token])), f"{float(probabilities[row, token]):.0%}")
