"""Bytes: files written atomically, ranges of local and remote files, prefetch and a disk cache."""
