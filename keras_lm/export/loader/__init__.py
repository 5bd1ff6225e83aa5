"""Scripts that go along with an exported model: they need NumPy and its runtime, not keras_lm."""
