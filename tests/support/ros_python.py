"""An interpreter with ROS 2's rclpy and vla-edge: that of `make ros`, or whichever is named."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROS_PYTHON = Path(os.environ.get("VLA_EDGE_ROS_PYTHON", ROOT / "build" / "ros" / "bin" / "python"))
