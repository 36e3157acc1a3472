"""What a step must at least read and compute, and how far from it a backend is."""
