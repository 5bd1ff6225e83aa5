"""Runs as the page and the command line see them: start, queue, watch, end. No TensorFlow."""
