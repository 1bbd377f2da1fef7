"""The packed dataset: tars, index.parquet, dataset.json and quarantine.csv."""
