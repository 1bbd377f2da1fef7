"""Sampling as pure arithmetic: which rank reads which video, which frames, which window."""
