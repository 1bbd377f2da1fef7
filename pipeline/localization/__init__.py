"""Timelines of long videos, scored against labelled segments: `evaluate --timeline`."""
