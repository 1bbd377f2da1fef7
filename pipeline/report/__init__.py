"""The report of an evaluation: report.html and its parts."""
