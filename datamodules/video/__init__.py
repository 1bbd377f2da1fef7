"""One video file: what it is, which frames it has, and decoding them exactly."""
