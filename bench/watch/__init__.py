"""Readings from outside the measuring process: memory, power, clocks, the machine. Stands on `report` alone."""
