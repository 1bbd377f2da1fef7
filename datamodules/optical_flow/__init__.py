"""Optical flow of consecutive frames: estimation, levels of 8 bits, videos of flow, and clips of RGB and flow."""
