"""Weights of published and own checkpoints: download, safe loading, key mapping, inflation; averages of weights."""
