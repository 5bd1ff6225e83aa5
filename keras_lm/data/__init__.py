"""Texts: read, cleaned, tokenized, split, measured. No TensorFlow."""
