"""The side that waits: starts a process, follows and judges it, makes its row. Knows of no backend."""
