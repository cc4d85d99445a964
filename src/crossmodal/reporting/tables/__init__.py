"""The papers' tables and claims: as CSV, Markdown, LaTeX and HTML, and in the terminal."""
