"""Live streams: cameras, network streams and pipes read without end into windows of frames."""
