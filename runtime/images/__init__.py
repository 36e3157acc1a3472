"""Image files and frames, read without trusting them."""
