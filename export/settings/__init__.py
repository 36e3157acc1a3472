"""Settings as people write and read them, whatever family they are of."""
