"""Follow vla-drive's datagrams, and stop when they cease: the wheels' side of --robot udp://HOST:PORT."""

import argparse
import json
import math
import signal
import socket
import sys
import time

LONGEST_S = 0.5  # no datagram is followed for longer, whatever it says


def wheels(values: dict[str, float], why: str) -> None:
    """Your motors' driver stands here. Without values: halt."""
    print("move", *(f"{name}={value:+.3f}" for name, value in values.items()), why, flush=True)


def hear(wire: socket.socket) -> tuple[str, int, float, dict[str, float], str] | None:
    """The next datagram: whose, its number, how long it holds, what to do, why. None: none in time, or none of ours."""
    try:
        said = json.loads(wire.recv(2048))
        hold_s = min(said["hold_ms"] / 1e3, LONGEST_S)
        values = {} if said["stop"] else {name: float(value) for name, value in said["values"].items()}
        why = "".join(filter(str.isprintable, said["reason"]))  # a stranger's may be anything
        if hold_s > 0 and math.isfinite(sum(values.values())) and all(map(str.isprintable, values)):
            return str(said["run"]), int(said["seq"]), hold_s, values, why
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        pass  # damaged, or a stranger's; or it is time to look whether the latest one still holds
    return None


def follow(wire: socket.socket) -> None:
    until_s, run, seq = 0.0, "", 0  # until when the latest one may be followed, whose it was, its number
    while True:
        wire.settimeout(max(until_s - time.monotonic(), 0.001) if until_s else None)
        heard = hear(wire)
        if until_s and time.monotonic() >= until_s:
            wheels({}, "STOP: no datagram came in time")
            until_s = 0.0
        # not one that comes late, nor a second sender's while the first one drives
        if heard is not None and (heard[1] > seq if heard[0] == run else not until_s):
            run, seq, hold_s, values, why = heard
            until_s = time.monotonic() + hold_s
            wheels(values, why)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("port", type=int, help="where vla-drive sends to")
given = parser.parse_args()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
    try:
        wire.bind(("127.0.0.1", given.port))
        follow(wire)
    except (OSError, OverflowError) as error:
        parser.exit(2, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130)
    finally:
        wheels({}, "STOP: the receiver ends")
