"""`vla-sample`: generated checkpoints in the containers of trained ones."""
