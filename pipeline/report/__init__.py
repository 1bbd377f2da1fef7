"""HTML pages and charts: report.html of an evaluation, and the templates of the pages of `show` and `stats`."""
