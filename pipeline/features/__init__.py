"""Verb `features`: the output of any layer, resumable, to Parquet, npz or WebDataset."""
