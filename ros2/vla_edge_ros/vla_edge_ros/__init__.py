"""What `ros2 run` finds; the node itself is in vla_edge.runtime.ros2."""
