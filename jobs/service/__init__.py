"""Verb `serve`: classification of uploaded videos over HTTP, by replicas under Ray Serve."""
