"""One video file read: what it is, which frames it has, and decoding them exactly."""
