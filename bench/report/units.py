"""Factors between units that reports use."""

BYTES_PER_MIB = 1 << 20
KIB_PER_MIB = 1024
