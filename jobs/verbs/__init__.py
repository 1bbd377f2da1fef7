"""Cluster side: pack, evaluate, features and doctor on many nodes."""
