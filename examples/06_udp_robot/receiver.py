"""Follow vla-drive's datagrams, and stop when they cease: the wheels' side of --robot udp://HOST:PORT."""

import json
import socket
import sys
import time


def wheels(values: dict[str, float], why: str) -> None:
    print("move", *(f"{name}={value:+.3f}" for name, value in values.items()), why, flush=True)


wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wire.bind(("127.0.0.1", int(sys.argv[1])))
until_s, run, seq = 0.0, "", 0  # until when the latest datagram may be followed, whose it was, its number
while True:
    wire.settimeout(max(until_s - time.monotonic(), 0.001) if until_s else None)
    try:
        said = json.loads(wire.recv(2048))
    except TimeoutError:
        wheels({}, "STOP: no datagram came in time")
        until_s = 0.0
        continue
    if (said["run"] == run and said["seq"] > seq) or (
        said["run"] != run and not until_s
    ):  # not late, no second sender
        run, seq = said["run"], said["seq"]
        until_s = time.monotonic() + min(said["hold_ms"], 500) / 1e3
        wheels({} if said["stop"] else said["values"], said["reason"])
