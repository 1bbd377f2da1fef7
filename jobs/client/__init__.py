"""On the submitting side: the job server, logs, status, and the local cluster."""
