"""Both sides: a run's folder on a disk or in an object store."""
