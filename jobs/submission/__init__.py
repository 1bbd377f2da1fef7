"""Submitting side: a job checked, collected, uploaded, resumed."""
