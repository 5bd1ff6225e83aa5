"""Processes around runs: start, stop, queue, find again; and the workers that generate."""
