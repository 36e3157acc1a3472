"""Device memory, streams, events and graphs behind one small protocol, with two implementations."""
