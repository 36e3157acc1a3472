"""`vla-node`: a policy between a camera's topic and `/cmd_vel`, in ROS 2's names and types."""
