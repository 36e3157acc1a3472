"""The round trip on DDS: frames out, velocities in, and how long a robot moves on when its camera is lost."""
