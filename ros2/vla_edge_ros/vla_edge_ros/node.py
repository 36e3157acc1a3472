"""`ros2 run vla_edge_ros node`."""

from vla_edge.runtime.ros2.ros.start import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
