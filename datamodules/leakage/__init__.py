"""The same video on both sides of a split, found by its content."""
