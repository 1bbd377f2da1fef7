"""Sampling arithmetic without I/O: order of videos per rank, frames of clips, crop windows."""
