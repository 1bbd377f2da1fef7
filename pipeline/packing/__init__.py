"""Verb `pack`: turns lists of videos into shards."""
