"""Splits of a dataset without official ones: balanced division into splits or folds, groups kept whole; split files."""
