"""Verb `prelabel`: predictions as what label tools import."""
