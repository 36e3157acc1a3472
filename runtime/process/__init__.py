"""What this process may use, and how it is interrupted: cores, memory, threads, forks, signals."""
