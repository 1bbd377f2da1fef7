"""Child processes that are killed when they hang, outcomes of processes, processors and ports of this machine."""
