"""Bags of ROS 2, in MCAP and in SQLite, as episodes."""
