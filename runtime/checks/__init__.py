"""How far a value is from its reference, and whether that keeps its gate."""
