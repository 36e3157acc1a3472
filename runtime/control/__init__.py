"""Between a policy and the wheels: faults become stops."""
