"""Whether DDS can be had here at all. Where it can and does not work, its tests fail."""

from __future__ import annotations

import socket
from importlib.util import find_spec


def why_no_dds() -> str | None:
    """Why its tests are skipped; None where there is no reason."""
    if find_spec("cyclonedds") is None:
        return "cyclonedds is not here; it has no wheel for every platform"
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        ):
            receiver.bind(("127.0.0.1", 0))
            receiver.settimeout(5)
            sender.sendto(b"x", receiver.getsockname())
            receiver.recv(1)
    except OSError as error:
        return f"no datagram comes through on loopback here: {error}"
    return None
