"""Reading of one video file: container, frame table, exact seeking and decoding; and the mp4 writer."""
