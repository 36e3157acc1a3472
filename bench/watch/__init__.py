"""Readings from outside the measuring process: memory, power, clocks, the machine."""
