"""Bytes: atomic writes, ranges of local and remote files, prefetch, a disk cache."""
