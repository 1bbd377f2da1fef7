"""A checkpoint over a split on many processes, each video once; verb `weights`."""
