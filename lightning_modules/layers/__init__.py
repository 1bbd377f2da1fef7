"""Layers that the networks are built of, and what is done to them for training and inference."""
