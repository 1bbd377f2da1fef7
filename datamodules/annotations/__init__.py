"""Readers of annotation lists: any list of labelled videos, read into `VideoRecord`s and checked."""
