"""A build in a process of its own, which ends before the next begins, so that all its memory returns."""
