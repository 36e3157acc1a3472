"""Commands as datagrams: one JSON object each, which docs/control.md specifies.

Datagrams get lost, and the sender may be killed: the receiver must stop by itself when none comes for `hold_ms`.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence

from vla_edge.runtime.control.command import Command, stop_for
from vla_edge.runtime.errors import InputError

VERSION = 1
MAX_BYTES = 1400  # fits a frame of Ethernet
_REASON_CHARACTERS = 120


def datagram(command: Command, run: str, number: int, hold_ms: float, now_s: float) -> bytes:
    """A command on the wire, at most `MAX_BYTES` for the names that `UdpRobot` accepts.

    Args:
        command: to send.
        run: of this sender, the same in all its datagrams.
        number: greater in each.
        hold_ms: how long it may be followed.
        now_s: monotonic seconds of the sender.
    """
    fields = {
        "v": VERSION,
        "run": run,
        "seq": number,
        "time_s": round(now_s, 6),
        "hold_ms": hold_ms,
        "stop": command.stopped,
        "values": dict(zip(command.names, command.values, strict=True)),
        "reason": command.reason[:_REASON_CHARACTERS],
    }
    return json.dumps(fields, separators=(",", ":"), allow_nan=False).encode("ascii")


class UdpRobot:
    """Sends each command to one address, without waiting.

    Args:
        host: a name or an address.
        port: of the receiver.
        names: of the components.
        hold_ms: how long the receiver may follow one command.

    Raises:
        InputError: no such host, or more components than a datagram holds.
    """

    def __init__(self, host: str, port: int, names: Sequence[str], hold_ms: float) -> None:
        self._run, self._number, self._hold_ms = os.urandom(8).hex(), 0, hold_ms
        longest = stop_for(tuple(names), "\u0001" * _REASON_CHARACTERS)
        if len(datagram(longest, self._run, 2**53, hold_ms, time.monotonic())) + 24 * len(names) > MAX_BYTES:
            raise InputError(
                f"{len(names)} components do not fit a datagram.", "Send them by code of your own."
            )
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            self._socket.connect(address)
            self._place = f"udp://{host}:{port}"
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"udp://{host}:{port} cannot be sent to: {error}.", "Check the address."
            ) from error

    def send(self, command: Command) -> None:
        """Raises OSError where nothing takes it, as when nobody listens at that port of a host that says so."""
        self._number += 1
        data = datagram(command, self._run, self._number, self._hold_ms, time.monotonic())
        try:
            self._socket.send(data)
        except ConnectionRefusedError as error:
            # told of the datagram before: this one was not sent
            if not command.stopped:
                raise ConnectionRefusedError(f"nobody listens at {self._place}") from error
            self._socket.send(data)

    def close(self) -> None:
        self._socket.close()
