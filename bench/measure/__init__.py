"""What is timed and how: loops, statistics, errors of actions, the messages of a job. Knows of no backend."""
