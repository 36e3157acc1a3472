"""`vla-drive`: from a camera to a robot, at a fixed rate."""
