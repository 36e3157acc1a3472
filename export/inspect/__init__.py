"""`vla-inspect`: what a checkpoint or a bundle holds, or how two differ."""
