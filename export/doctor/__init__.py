"""`vla-doctor`: what this machine has, what would stop a policy on it, what to do. Needs no torch: robots run it."""
