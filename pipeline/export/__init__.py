"""Verb `export`: a checkpoint as a program that runs without this project, checked against the checkpoint."""
