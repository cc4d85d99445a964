"""`report.html`, the one page to look at, and the page of a search."""
