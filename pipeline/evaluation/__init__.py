"""Verbs evaluate, compare, fuse and summarize."""
