"""What this machine is, what a process may use of it, how it is interrupted: cores, memory, forks, signals."""
