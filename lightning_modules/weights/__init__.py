"""Published and saved weights: downloaded, read without trust, renamed, inflated."""
