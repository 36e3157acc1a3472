"""Between a policy and the wheels: faults become stops, and every end of a program is one."""
