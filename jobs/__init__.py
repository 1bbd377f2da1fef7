"""The cluster: `python -m jobs VERB`. The only package that imports ray."""
