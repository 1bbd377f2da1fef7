"""Fusion of networks that look at several streams of a video: RGB and optical flow."""
