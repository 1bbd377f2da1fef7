"""Layers of the networks, and modifications of networks for training and inference."""
