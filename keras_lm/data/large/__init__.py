"""Texts larger than memory: tokenized once, in parts by several processes, kept on the disk."""
