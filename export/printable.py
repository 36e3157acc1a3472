"""Text from a file as a terminal may see it."""

from vla_edge.runtime.terminal import printable

__all__ = ["printable"]
