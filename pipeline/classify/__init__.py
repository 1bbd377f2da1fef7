"""Verbs classify and describe: any video files."""
