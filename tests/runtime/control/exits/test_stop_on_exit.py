"""However a driving program ends, the robot's last command is a stop."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from vla_edge.runtime import InputError, stop_on_exit

# The robot writes what it does into a file: argv[1]. Nothing is buffered.
ROBOT = """
import atexit, os, signal, sys, threading, time
from types import SimpleNamespace
from vla_edge.runtime import stop_on_exit

log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
say = lambda text: os.write(log, text.encode() + b"\\n")
move, stop = (lambda: say("move")), (lambda: say("stop"))

def drive():
    while True:
        move()
        time.sleep(0.001)

"""
LOOP = """
with stop_on_exit(stop):
    drive()
"""


# Native code that waits for a lock of its own: meanwhile no handler of Python runs in the main thread.
HANG = """
import ctypes
native, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
native.pthread_mutex_lock(lock)
awaited = ["stop"]
def let_go_after_the_stop():
    while not set(awaited) <= set(open(sys.argv[1]).read().split()):
        time.sleep(0.01)
    native.pthread_mutex_unlock(lock)
threading.Thread(target=let_go_after_the_stop, daemon=True).start()
def hang():
    native.pthread_mutex_lock(lock)
"""


class Program:
    """A robot's program in a process of its own."""

    def __init__(self, tmp_path: Path, script: str, *before: str) -> None:
        self.log = tmp_path / "robot"
        command = [*before, sys.executable, "-W", "ignore::DeprecationWarning", "-c", ROBOT + script]
        self.process = subprocess.Popen([*command, str(self.log)], stderr=subprocess.PIPE, text=True)

    def said(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def wait_for(self, word: str) -> None:
        while word not in self.said():
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.002)

    def end(self) -> int:
        """Its exit status; its stderr is kept."""
        self.errors = self.process.communicate(timeout=100)[1]
        return self.process.returncode

    def last(self) -> str:
        return self.said()[-1]


SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU"]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_stops_the_robot_and_tells_the_supervisor(tmp_path: Path, name: str) -> None:
    program = Program(tmp_path, LOOP)
    program.wait_for("move")
    number = signal.Signals[name]
    program.process.send_signal(number)
    assert program.end() == (-number if name == "SIGINT" else 128 + number)
    assert program.last() == "stop"


UNHANDLED = ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU", "SIGXFSZ", "SIGPWR", "SIGVTALRM", "SIGPROF", "SIGIO"]
UNHANDLED += ["SIGRTMIN", "SIGRTMAX", "SIGSTKFLT", "SIGPIPE"]


@pytest.mark.parametrize("name", [*UNHANDLED, "SIGRTMIN+3"])
def test_so_does_any_other_signal_that_would_end_the_program(tmp_path: Path, name: str) -> None:
    base, _, more = name.partition("+")
    if not hasattr(signal, base):
        return  # not on this system
    number = getattr(signal, base) + int(more or 0)
    program = Program(tmp_path, f"signal.signal({int(number)}, signal.SIG_DFL)\n{LOOP}")
    program.wait_for("move")
    program.process.send_signal(number)
    assert program.end() == 128 + number
    assert program.last() == "stop"


def test_a_signal_that_somebody_handles_or_ignores_is_left_to_him(tmp_path: Path) -> None:
    script = """
import faulthandler
faulthandler.register(signal.SIGUSR1, file=sys.stderr)  # native code
signal.signal(signal.SIGUSR2, lambda number, frame: say("theirs"))
signal.signal(signal.SIGALRM, signal.SIG_IGN)
with stop_on_exit(stop):
    signal.signal(signal.SIGPROF, lambda number, frame: say("inside"))
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE, signal.SIGPROF):
        os.kill(os.getpid(), number)
        move()
say("after")
"""
    program = Program(tmp_path, script)
    assert program.end() == 0, program.errors
    assert program.said() == ["move", "theirs", *["move"] * 3, "inside", "move", "stop", "after"]
    assert "Current thread" in program.errors


def test_a_signal_that_native_code_handles_is_no_block_to_enter(tmp_path: Path) -> None:
    script = """
import faulthandler
faulthandler.register(signal.SIGTERM, file=sys.stderr)
with stop_on_exit(stop):
    move()
"""
    program = Program(tmp_path, script)
    assert program.end() == 1
    assert program.said() == []
    assert "SIGTERM is handled by native code already, which stop_on_exit would cut off." in program.errors


def as_process_1() -> list[str]:
    """The command before another that makes it process 1, with root's rights or without."""
    for rights in (["--user", "--map-root-user"], []):
        command = ["unshare", *rights, "--pid", "--fork", "--kill-child"]
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], capture_output=True).returncode == 0
        ):
            return command
    pytest.skip("this machine makes no process namespaces")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_as_process_1_of_a_container_too(tmp_path: Path, name: str) -> None:
    unshare = as_process_1()
    number = signal.Signals[name]
    script = f"""
assert os.getpid() == 1
def later():
    time.sleep(0.1)
    os.kill(1, {int(number)})
threading.Thread(target=later, daemon=True).start()
{LOOP}"""
    program = Program(tmp_path, script, *unshare)
    assert program.end() == 128 + number
    assert program.last() == "stop"


ENDS = {
    "the end": ("    move()", 0),
    "an exception": ("    move(); raise OSError('camera unplugged')", 1),
    "sys.exit": ("    move(); sys.exit(7)", 7),
    "nobody leaves the block": ("    pass\nkept = stop_on_exit(stop)\nkept.__enter__()\nmove()", 0),
    "a generator is left open": (
        "    pass\ndef steps():\n    with stop_on_exit(stop):\n        yield move()\nkept = steps()\nnext(kept)",
        0,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_other_end_stops_it_as_well(tmp_path: Path, name: str) -> None:
    body, status = ENDS[name]
    program = Program(tmp_path, f"with stop_on_exit(stop):\n{body}\n")
    assert program.end() == status
    assert program.last() == "stop"


def test_a_signal_while_the_engine_hangs_stops_the_robot_from_another_thread(tmp_path: Path) -> None:
    script = f"""
{HANG}
with stop_on_exit(stop, SimpleNamespace(halt=lambda reason: say("halt")), patience_s=0.1):
    move()
    hang()
    drive()
"""
    program = Program(tmp_path, script)
    program.wait_for("move")
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == 128 + signal.SIGTERM
    assert list(dict.fromkeys(program.said())) == ["move", "halt", "stop"]
    assert program.said().count("move") == 1
    assert program.last() == "stop"
    assert "main thread did not come back within 0.1 s of SIGTERM" in program.errors


OTHERS = {
    "asyncio, before": """
async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
    with stop_on_exit(stop, patience_s=0.1):
        move(); hang(); drive()
asyncio.run(main())
""",
    "asyncio, inside": """
async def main():
    with stop_on_exit(stop, patience_s=0.1):
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
        move(); hang(); drive()
asyncio.run(main())
""",
    "asyncio, put away inside": """
async def main():
    with stop_on_exit(stop, patience_s=0.1):
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
        move(); hang(); drive()
asyncio.run(main())
""",
    "asyncio, the same signal inside": """
async def main():
    with stop_on_exit(stop, patience_s=0.1):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: sys.exit(128 + signal.SIGTERM))
        move(); hang()
        while True:
            await asyncio.sleep(0.01)
asyncio.run(main())
""",
    "a GUI, before": """
signal.set_wakeup_fd(ours.fileno())
with stop_on_exit(stop, patience_s=0.1):
    move(); hang(); drive()
""",
    "a GUI, inside": """
with stop_on_exit(stop, patience_s=0.1):
    signal.set_wakeup_fd(ours.fileno())
    move(); hang(); drive()
""",
}


@pytest.mark.parametrize("name", OTHERS)
def test_it_learns_of_the_signal_beside_an_event_loop_too(tmp_path: Path, name: str) -> None:
    sockets = "import asyncio, socket\nours, theirs = socket.socketpair()\nours.setblocking(False)\n"
    program = Program(tmp_path, HANG + sockets + OTHERS[name])
    program.wait_for("move")
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == 128 + signal.SIGTERM, program.errors
    assert program.said()[:2] == ["move", "stop"]
    assert program.last() == "stop"


def test_an_event_loop_goes_on_to_hear_of_its_signals(tmp_path: Path) -> None:
    script = """
import asyncio
async def main():
    loop, heard = asyncio.get_running_loop(), asyncio.Queue()
    loop.add_signal_handler(signal.SIGUSR1, heard.put_nowait, "before")
    with stop_on_exit(stop):
        loop.add_signal_handler(signal.SIGUSR2, heard.put_nowait, "inside")
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
            say(await heard.get())
    os.kill(os.getpid(), signal.SIGUSR1)
    say(await heard.get())
asyncio.run(main())
"""
    program = Program(tmp_path, script)
    assert program.end() == 0, program.errors
    assert program.said() == ["before", "inside", "stop", "before"]


def test_the_wakeup_descriptor_is_anothers_again_after_the_block() -> None:
    before = signal.set_wakeup_fd
    ours, theirs = socket.socketpair()
    third, fourth = socket.socketpair()
    with ours, theirs, third, fourth:
        ours.setblocking(False)
        third.setblocking(False)
        signal.set_wakeup_fd(ours.fileno())
        with stop_on_exit(lambda: None), stop_on_exit(lambda: None):
            assert signal.set_wakeup_fd(third.fileno()) == ours.fileno()
            with pytest.raises(ValueError, match="fd"):
                signal.set_wakeup_fd(theirs.fileno())
            assert signal.set_wakeup_fd(third.fileno(), warn_on_full_buffer=False) == third.fileno()
        assert signal.set_wakeup_fd is before
        assert signal.set_wakeup_fd(-1) == third.fileno()


@pytest.mark.parametrize("blocks", [2, 3])
def test_every_block_of_several_stops_its_robot_while_the_engine_hangs(tmp_path: Path, blocks: int) -> None:
    script = f"""
{HANG}
import contextlib
names = [str(at) for at in range({blocks})]
awaited[:] = [word + name for name in names for word in ("halt", "stop")]
with contextlib.ExitStack() as robots:
    for name in names:
        controller = SimpleNamespace(halt=lambda reason, name=name: say("halt" + name))
        robots.enter_context(stop_on_exit(lambda name=name: say("stop" + name), controller, patience_s=0.1))
    move()
    hang()
    drive()
"""
    program = Program(tmp_path, script)
    program.wait_for("move")
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == 128 + signal.SIGTERM, program.errors
    assert program.said().count("move") == 1
    assert {f"stop{at}" for at in range(blocks)} <= set(program.said())


def test_a_signal_that_nobody_sends_to_end_a_program_stops_every_robot_too(tmp_path: Path) -> None:
    script = f"""
{HANG}
awaited[:] = ["outer", "inner"]
with stop_on_exit(lambda: say("outer"), patience_s=0.1), stop_on_exit(lambda: say("inner"), patience_s=0.1):
    move()
    hang()
    drive()
"""
    program = Program(tmp_path, script)
    program.wait_for("move")
    program.process.send_signal(signal.SIGUSR1)
    assert program.end() == 128 + signal.SIGUSR1, program.errors
    assert program.said().count("move") == 1
    assert {"outer", "inner"} <= set(program.said())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_blocks_may_be_left_in_the_order_in_which_they_were_entered(number: int) -> None:
    told: list[str] = []
    before = signal.getsignal(number)
    first, second = (stop_on_exit(lambda name=name: told.append(name)) for name in ("first", "second"))

    def leave_the_first() -> None:
        first.__exit__(None, None, None)
        assert told == ["first"]
        signal.raise_signal(number)

    first.__enter__()
    with pytest.raises(SystemExit) as raised, second:
        leave_the_first()
    assert raised.value.code == 128 + number
    assert told == ["first", "second"]
    assert signal.getsignal(number) == before


def test_a_child_forked_inside_several_blocks_has_the_handlers_of_before(tmp_path: Path) -> None:
    script = """
with stop_on_exit(stop), stop_on_exit(stop):
    child = os.fork()
    if child == 0:
        handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
        say("default" if handlers == (signal.SIG_DFL,) * 2 and signal.set_wakeup_fd(-1) == -1 else "ours")
        os._exit(0)
    os.waitpid(child, 0)
"""
    program = Program(tmp_path, script)
    assert program.end() == 0, program.errors
    assert program.said() == ["default", "stop", "stop"]


def test_a_stop_that_hangs_does_not_keep_the_other_robots_from_theirs(tmp_path: Path) -> None:
    script = f"""
{HANG}
outer = lambda: say("stop")
inner = lambda: threading.Event().wait() if threading.current_thread() is not threading.main_thread() else None
with stop_on_exit(outer, patience_s=0.1), stop_on_exit(inner, patience_s=0.1):
    move()
    hang()
    drive()
"""
    program = Program(tmp_path, script)
    program.wait_for("move")
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == 128 + signal.SIGTERM, program.errors
    assert program.said().count("move") == 1


def test_a_program_that_swallows_the_exception_is_told_again(tmp_path: Path) -> None:
    script = """
with stop_on_exit(stop, patience_s=0.05):
    for _ in range(2):
        try:
            drive()
        except BaseException:
            say("swallowed")
    drive()
"""
    program = Program(tmp_path, script)
    program.wait_for("move")
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == 128 + signal.SIGTERM
    assert program.said().count("swallowed") == 2
    assert program.last() == "stop"


def test_signals_during_the_stop_do_not_lose_it(tmp_path: Path) -> None:
    script = """
def slowly():
    for _ in range(100):
        time.sleep(0.002)
    say("stop")
with stop_on_exit(slowly):
    drive()
"""
    program = Program(tmp_path, script)
    program.wait_for("move")
    for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP] * 20:
        program.process.send_signal(number)
        time.sleep(0.002)
    assert program.end() in (128 + signal.SIGTERM, 128 + signal.SIGHUP, -signal.SIGINT)
    assert program.last() == "stop"


def test_a_forked_child_neither_stops_the_robot_nor_keeps_the_handlers(tmp_path: Path) -> None:
    script = """
with stop_on_exit(stop):
    children = []
    for ends in (lambda: sys.exit(0), lambda: time.sleep(30), lambda: os.kill(os.getpid(), signal.SIGHUP)):
        child = os.fork()
        if child == 0:
            ends()
        children.append(child)
    def fork():
        children.append(os.fork() or time.sleep(30))
    thread = threading.Thread(target=fork)
    thread.start(); thread.join()
    time.sleep(0.1)
    os.kill(children[1], signal.SIGTERM)
    os.kill(children[3], signal.SIGTERM)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    say(f"statuses{statuses}".replace(" ", ""))
    move()
"""
    program = Program(tmp_path, script)
    assert program.end() == 0, program.errors
    assert program.said() == [f"statuses{[0, 15, 1, 15]}".replace(" ", ""), "move", "stop"]


@contextmanager
def handled(number: int, handler: object) -> Iterator[None]:
    before = signal.signal(number, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(number, before)


def test_handlers_of_before_are_called_first_and_put_back() -> None:
    told: list[str] = []

    def earlier(number: int, frame: object) -> None:
        told.append("earlier")

    with handled(signal.SIGTERM, earlier):
        with pytest.raises(SystemExit) as raised, stop_on_exit(lambda: told.append("stop")):
            signal.raise_signal(signal.SIGTERM)
        assert raised.value.code == 143
        assert told == ["earlier", "stop"]
        assert signal.getsignal(signal.SIGTERM) is earlier
    assert signal.set_wakeup_fd(-1) == -1


def test_an_ignored_signal_stays_ignored() -> None:
    stops: list[int] = []
    with handled(signal.SIGHUP, signal.SIG_IGN):
        with stop_on_exit(lambda: stops.append(1)):
            signal.raise_signal(signal.SIGHUP)
            assert stops == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert stops == [1]


def test_one_block_inside_another_stops_both_robots() -> None:
    told: list[str] = []
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    outer, inner = (stop_on_exit(lambda name=name: told.append(name)) for name in ("outer", "inner"))
    with pytest.raises(SystemExit), outer, inner:
        signal.raise_signal(signal.SIGTERM)
    assert told == ["inner", "outer"]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("error", [OSError("bus is busy"), KeyboardInterrupt(), SystemExit(3)])
def test_a_stop_that_raises_is_called_again(error: BaseException) -> None:
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise error

    passes = isinstance(error, Exception)
    try:
        with stop_on_exit(stop):
            pass
    except (KeyboardInterrupt, SystemExit) as raised:
        assert raised is error  # noqa: PT017
    else:
        assert passes
    assert len(calls) == 3


def test_a_stop_that_never_works_says_so_and_is_tried_once_more_at_exit(tmp_path: Path) -> None:
    script = """
def broken():
    say("try")
    raise OSError("bus is gone")
with stop_on_exit(broken):
    move()
"""
    program = Program(tmp_path, script)
    assert program.end() == 1
    assert program.said() == ["move"] + ["try"] * 10
    assert "THE ROBOT MAY BE MOVING: its stop failed 5 times: OSError: bus is gone" in program.errors


def test_the_controller_is_halted_in_the_moment_of_the_signal() -> None:
    told: list[str] = []
    controller = SimpleNamespace(halt=told.append)
    with pytest.raises(SystemExit), stop_on_exit(lambda: told.append("stop"), controller):
        signal.raise_signal(signal.SIGTERM)
    # the watching thread halts it too, before or after the stop
    assert told[0] == "the program was told to end by SIGTERM."
    assert "stop" in told


def test_another_thread_than_the_main_one_is_refused() -> None:
    found: list[object] = []

    def enter() -> None:
        try:
            stop_on_exit(lambda: None).__enter__()
        except InputError as error:
            found.append(error.problem)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [
        "stop_on_exit was entered in a thread that is not the main one: Python handles signals there only."
    ]


@pytest.mark.parametrize("patience_s", [0, -1, float("nan"), float("inf"), "1", None])
def test_a_patience_that_is_no_time_is_refused(patience_s: float) -> None:
    with pytest.raises(InputError, match="is no time to wait"):
        stop_on_exit(lambda: None, patience_s=patience_s)


def test_signals_at_random_moments_of_many_blocks_never_lose_the_stop(tmp_path: Path) -> None:
    script = """
import random
rng = random.Random(4)
outside = []
signal.signal(signal.SIGTERM, lambda number, frame: outside.append(number))
last = None
def note(word):
    global last
    last = word
for at in range(400):
    wait_s, drive_s = rng.uniform(0, 0.002), rng.uniform(0, 0.002)
    def send():
        time.sleep(wait_s)
        os.kill(os.getpid(), signal.SIGTERM)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        with stop_on_exit(lambda: note("stop")):
            end = time.monotonic() + drive_s
            while time.monotonic() < end:
                note("move")
    except SystemExit:
        pass
    if last != "stop":
        sys.exit(f"round {at}: the last command is {last}")
    thread.join()
say("rounds")
"""
    program = Program(tmp_path, script)
    assert program.end() == 0, program.errors
    assert program.said() == ["rounds"]
    assert program.errors == ""


def test_a_signal_at_the_jump_back_of_a_loop_does_not_pass_the_block_by(tmp_path: Path) -> None:
    """Python 3.13 leaves that instruction out of the block."""
    script = """
import random
rng = random.Random(4)
signal.signal(signal.SIGTERM, lambda number, frame: None)
for at in range(12):
    stops = []
    thread = threading.Timer(rng.uniform(0, 0.004), os.kill, (os.getpid(), signal.SIGTERM))
    try:
        with stop_on_exit(lambda: stops.append(1), patience_s=30):
            x = 1
            thread.start()
            while x:
                x = abs(x)
    except SystemExit:
        if not stops:
            sys.exit("the block was passed by")
    thread.join()
say("rounds")
"""
    program = Program(tmp_path, script)
    assert program.end() == 0, program.errors
    assert program.said() == ["rounds"]


def test_no_thread_and_no_file_is_left_behind() -> None:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with stop_on_exit(lambda: None):
            pass
    deadline = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.001)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == files
