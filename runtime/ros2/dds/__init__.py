"""ROS 2's topics straight on DDS, by the package cyclonedds: no installation of ROS is needed."""
