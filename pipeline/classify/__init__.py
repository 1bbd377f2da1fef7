"""Verbs `classify` and `describe`: classify any video files, or describe them in sentences."""
