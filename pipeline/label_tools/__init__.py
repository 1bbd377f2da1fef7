"""Verbs `prelabel` and `review`: predictions as what label tools import, and the videos to label next."""
