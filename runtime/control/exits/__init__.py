"""However a program ends that drives a robot, the robot is stopped: signals, exceptions, the interpreter's own exit."""
