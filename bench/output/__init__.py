"""A report for people: terminal, Markdown, CSV and page."""
