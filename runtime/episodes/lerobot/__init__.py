"""LeRobot's data sets, of version 2.1 and 3: many episodes in tables and videos."""
