"""Engines behind one protocol, and the choice among them."""
