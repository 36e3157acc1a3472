"""The parts of a plan: which there are to be, taken from earlier plans or built, put in their place as one."""
