"""The same node on rclpy, as a managed node, for where ROS 2 is installed."""
