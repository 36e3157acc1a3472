"""`Controller.run`: commands at a fixed rate, and a stop for whatever goes wrong around the policy."""
