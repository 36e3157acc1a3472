"""The random stand-in that was once timed under the names of the policies, rebuilt."""
