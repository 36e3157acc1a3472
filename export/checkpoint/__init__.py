"""Checkpoints, read without running anything in them."""
