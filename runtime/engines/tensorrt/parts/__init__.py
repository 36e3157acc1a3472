"""The parts of a plan as one engine: their order and streams, their memory, shared engines, one graph."""
