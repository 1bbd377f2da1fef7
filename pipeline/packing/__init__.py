"""Verb `pack`: lists of videos to shards."""
