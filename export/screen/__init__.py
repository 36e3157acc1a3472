"""How results and progress of the exporting commands look."""
