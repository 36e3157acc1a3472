"""`vla-run`: actions for images."""
