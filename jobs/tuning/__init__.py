"""Cluster side: the search over settings under Ray Tune, each trial a `fit` of its own."""
