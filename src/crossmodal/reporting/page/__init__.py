"""`report.html`, the page with all results, and the page with the answers of a search."""
