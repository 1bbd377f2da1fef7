"""Video files written: renditions for training, H.264, and synthetic videos."""
