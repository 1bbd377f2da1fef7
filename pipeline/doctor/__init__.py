"""Verb `doctor`: whether this machine is ready for a run."""
