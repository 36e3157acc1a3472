"""The report of a bench run: its types, its schema, its file."""
