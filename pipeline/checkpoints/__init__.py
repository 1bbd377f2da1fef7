"""Checkpoints of a run: kept, whole, and saved when the run is preempted."""
