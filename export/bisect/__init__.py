"""`vla-bisect`: where in a graph two engines part."""
