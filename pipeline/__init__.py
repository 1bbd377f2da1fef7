"""The steps a person runs, `python -m pipeline VERB`: puts data and networks together. No ray."""
