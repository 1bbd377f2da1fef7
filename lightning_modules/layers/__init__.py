"""Building blocks of the networks, and changes to them for training and inference."""
