"""Pure arithmetic: which rank reads which video, which frames, which window."""
