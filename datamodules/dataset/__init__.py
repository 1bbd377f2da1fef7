"""Packed datasets: tar shards, index.parquet, dataset.json and quarantine.csv."""
