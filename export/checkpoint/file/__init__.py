"""The bytes of a checkpoint: one open file, its records and its checksums."""
