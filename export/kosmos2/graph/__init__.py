"""The family's graph, written from shapes."""
