"""On the submitting side: a job checked, collected, uploaded, resumed."""
