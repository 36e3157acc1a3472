"""Run a policy that sends datagrams to 127.0.0.1:PORT, drive by them, and start it again when it crashes or hangs."""

import argparse
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time

from vla_edge.runtime import stop_on_exit

TICK_S, HUNG_S, LOADING_S, GRACE_S, STEADY_S = 0.02, 2.0, 120.0, 3.0, 30.0
# It has ended of its own will, or been told to: a fault is for people to look at.
SAID = {0, 1, 2, 129, 130, 143}


def wheels(values: dict[str, float], why: str) -> None:
    """Your motors' driver stands here. Without values: halt."""
    print("move", *(f"{name}={value:+.3f}" for name, value in values.items()), why, flush=True)


def hear(wire: socket.socket, run: str, seq: int) -> tuple[str, int, float, dict[str, float], str] | None:
    """The next datagram within a tick: whose, its number, until when it holds, what to do and why."""
    try:
        said = json.loads(wire.recv(2048))
        until_s = said["time_s"] + min(said["hold_ms"], 1000) / 1e3  # one machine, one monotonic clock
        values = {} if said["stop"] else {name: float(value) for name, value in said["values"].items()}
        whose, number = str(said["run"]), int(said["seq"])
        why = "".join(filter(str.isprintable, said["reason"]))  # a stranger's may be anything
        new = number > seq if whose == run else whose and not run
        good = all(map(math.isfinite, values.values())) and all(map(str.isprintable, values))
        if new and good and 0 < until_s - time.monotonic() <= 1:
            return whose, number, until_s, values, why
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        pass  # none came, or one that is none of ours: what was said last holds for as long as it said
    return None


def follow(child: subprocess.Popen[bytes], wire: socket.socket) -> float:
    """Drive while the policy lives, kill it where it hangs; how long it has sent commands, in seconds."""
    run, seq, until_s, first_s, heard_s = "", 0, 0.0, 0.0, time.monotonic()
    while child.poll() is None:
        heard, now_s = hear(wire, run, seq), time.monotonic()
        if heard is not None:
            run, seq, until_s, values, why = heard
            first_s, heard_s = first_s or now_s, now_s
            wheels(values, why)
        elif now_s > until_s:
            wheels({}, "STOP: no command")
        if now_s - heard_s > (HUNG_S if run else LOADING_S):
            wheels({}, "STOP: the policy hangs and is killed")
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    wheels({}, f"STOP: the policy ended with {child.returncode}")
    return heard_s - first_s if run else 0.0


def supervise(port: int, command: list[str], attempts: int, children: list[subprocess.Popen[bytes]]) -> int:
    """Until the policy ends of its own will, or has crashed so often in a row; the exit code."""
    failed = 0
    while True:
        # a new one each time: nothing that the last policy said waits in it
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.bind(("127.0.0.1", port))
            wire.settimeout(TICK_S)
            children[:] = [subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)]
            failed = 1 if follow(children[0], wire) > STEADY_S else failed + 1
        code = children[0].returncode
        if code in SAID or failed >= attempts:
            print(f"the policy ended with {code}, {failed} in a row: not started again", flush=True)
            return code if code in SAID else 1
        again_s = time.monotonic() + min(0.25 * 2**failed, 8.0)
        while time.monotonic() < again_s:
            wheels({}, "STOP: waiting to start the policy again")
            time.sleep(TICK_S)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask it to end, insist after a while, and leave no zombie."""
    child.terminate()  # does nothing where it has ended
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        print("the policy does not end and is killed", flush=True)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("port", type=int, help="of the datagrams, on this machine")
parser.add_argument("--attempts", type=int, default=5, help="crashes in a row after which it gives up (5)")
parser.add_argument("command", nargs="+", help="of the policy, after --")
given = parser.parse_args()
children: list[subprocess.Popen[bytes]] = []
try:
    try:
        with stop_on_exit(
            lambda: wheels({}, "STOP: the supervisor ends")
        ):  # on SIGTERM, Ctrl-C, SIGHUP, errors
            sys.exit(supervise(given.port, given.command, given.attempts, children))
    finally:  # the robot stands already
        for child in children:
            end(child)
except (OSError, OverflowError) as error:  # no such program, a port that is taken
    parser.exit(2, f"{error}\n")
except KeyboardInterrupt:
    parser.exit(130)
