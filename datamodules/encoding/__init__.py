"""Encoding of video files: renditions for training (H.264 in mp4), and synthetic datasets."""
