"""Storage access: atomic writes, byte ranges of local and remote files, prefetching, a disk cache."""
