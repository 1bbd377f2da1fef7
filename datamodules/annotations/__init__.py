"""Any list of labelled videos, read into `VideoRecord`s and checked."""
