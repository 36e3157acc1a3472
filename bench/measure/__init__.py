"""One backend timed in a process of its own, and the row that comes of it."""
