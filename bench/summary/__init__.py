"""A report made small enough for git: every figure, and some of the samples."""
