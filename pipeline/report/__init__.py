"""HTML pages and charts: report.html of an evaluation, and what the pages of show and stats are made with."""
