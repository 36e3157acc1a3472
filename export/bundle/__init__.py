"""Writing a bundle: golden samples, parity, gates."""
