"""Submitting side: the job server, logs, status, the local cluster."""
