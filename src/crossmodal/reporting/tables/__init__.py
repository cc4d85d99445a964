"""The papers' tables and claims, written as CSV, Markdown, LaTeX and HTML, and shown in the terminal."""
