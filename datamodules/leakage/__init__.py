"""Leakage between splits: detection of videos with the same content on both sides."""
