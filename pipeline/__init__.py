"""The steps a person runs: `python -m pipeline VERB`."""
