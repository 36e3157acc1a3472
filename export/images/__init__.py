"""Photographs for golden samples, free to use."""
