"""The node without a network: what it says, in which order, for what it hears."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime.control.command import Command, stop_for
from vla_edge.runtime.errors import InputError, InstructionError, VlaError
from vla_edge.runtime.process import parent
from vla_edge.runtime.ros2.node import Node
from vla_edge.runtime.ros2.parameters import NodeParameters
from vla_edge.runtime.ros2.topics import Topics
from vla_edge.runtime.ros2.transport import Diagnosis, Hearing
from vla_edge.runtime.ros2.wheels import check_components, velocity_of

NAMES, UNITS = ("linear_x", "linear_y"), ("m/s", "m/s")
PARAMETERS = NodeParameters(autostart=True, rate_hz=50.0, deadline_ms=5000.0, camera_ms=5000.0)


class FakePolicy:
    """Drives by the first pixel; knows two tasks."""

    def __init__(self, names: tuple[str, ...] = NAMES, units: tuple[str, ...] = UNITS) -> None:
        action = SimpleNamespace(names=names, units=units, limit=(1.0,) * len(names))
        self.manifest: Any = SimpleNamespace(action=action, name="fake")
        self.done: list[str | None] = []

    def check_instruction(self, instruction: str | None) -> None:
        if instruction not in (None, "go", "turn"):
            raise InstructionError(f"there is no {instruction!r}.")

    def act(self, frame: Any, instruction: str | None = None) -> Any:
        self.done.append(instruction)
        values = (0.5, -0.25)
        return SimpleNamespace(
            names=NAMES, values=values, chunk=(values,), instruction=instruction, clamped=False, held=False,
            timings_ms={"total": 1.0},
        )  # fmt: skip

    def reset(self) -> None:
        self.done.append("reset")


class Recorder:
    """A transport that remembers, and calls `then` after each velocity."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []
        self.hearing: Hearing | None = None
        self.broken = False

    def begin(self, hearing: Hearing) -> None:
        self.hearing = hearing

    def send_velocity(self, x: float, y: float) -> None:
        if self.broken and (x, y) != (0.0, 0.0):
            raise OSError("no network")
        self.said.append(("velocity", (x, y)))

    def send_status(self, text: str) -> None:
        self.said.append(("status", json.loads(text)))

    def send_result(self, text: str) -> None:
        self.said.append(("result", json.loads(text)))

    def send_diagnosis(self, diagnosis: Diagnosis) -> None:
        self.said.append(("diagnosis", diagnosis))

    def close(self) -> None: ...

    def all(self, kind: str) -> list[Any]:
        return [what for name, what in self.said if name == kind]

    def state(self) -> str | None:
        """Of the latest status."""
        return next((what["state"] for what in reversed(self.all("status"))), None)

    def level(self) -> int | None:
        """Of the latest diagnosis."""
        return next((what.level for what in reversed(self.all("diagnosis"))), None)


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def run(
    recorder: Recorder, script: Callable[[Node], None], parameters: NodeParameters = PARAMETERS
) -> tuple[FakePolicy, Any]:
    """Run a node while `script` runs beside it; it is deactivated at the script's end."""
    policy = FakePolicy()
    node = Node(policy, recorder, parameters, Topics())

    failures: list[BaseException] = []

    def beside() -> None:
        try:
            script(node)
        except BaseException as error:
            failures.append(error)
        finally:
            node.deactivate("the test is over.")

    thread = threading.Thread(target=beside)
    thread.start()
    health = node.run()
    thread.join()
    assert failures == []
    return policy, health


def show_until(node: Node, what: Callable[[], object], stamp_ns: int = 7) -> None:
    for seed in range(1000):
        if what():
            return
        node.hear_image(picture(seed), stamp_ns, time.monotonic())
        time.sleep(0.01)
    raise AssertionError("never")


def test_velocities_begin_and_end_with_zero_and_results_follow_theirs() -> None:
    recorder = Recorder()
    _, health = run(recorder, lambda node: show_until(node, lambda: recorder.all("result")))
    velocities = recorder.all("velocity")
    assert velocities[0] == velocities[-1] == (0.0, 0.0)
    at = [name for name, _ in recorder.said].index("result")
    assert recorder.said[at - 1] == ("velocity", (0.5, -0.25))
    assert recorder.said[at][1]["stamp"] == {"sec": 0, "nanosec": 7}
    assert recorder.all("status")[-1]["state"] == "ended"
    assert health.reason == "the test is over."


def test_a_new_task_begins_an_episode() -> None:
    recorder = Recorder()

    def script(node: Node) -> None:
        show_until(node, lambda: recorder.all("result"))
        node.hear_task("turn")
        show_until(node, lambda: recorder.all("result")[-1]["instruction"] == "turn")

    policy, _ = run(recorder, script)
    at = policy.done.index("turn")
    assert policy.done[at - 1] == "reset"
    assert "reset" not in policy.done[at:]


def test_a_task_that_the_policy_does_not_know_stops_it() -> None:
    recorder = Recorder()

    def script(node: Node) -> None:
        show_until(node, lambda: recorder.all("result"))
        node.hear_task("fly")
        show_until(node, lambda: recorder.all("velocity")[-1] == (0.0, 0.0))
        show_until(node, lambda: recorder.state() == "stopped")

    run(recorder, script)
    assert "there is no 'fly'" in recorder.all("status")[-1]["answer"]


def test_a_transport_that_hears_no_more_ends_it() -> None:
    recorder = Recorder()

    def script(node: Node) -> None:
        show_until(node, lambda: recorder.all("result"))
        node.hear_failure("nothing can be heard any more")
        while recorder.state() != "ended":
            time.sleep(0.01)

    _, health = run(recorder, script)
    assert health.reason == "nothing can be heard any more"
    assert recorder.all("velocity")[-1] == (0.0, 0.0)


def test_a_transport_that_cannot_send_is_a_fault() -> None:
    recorder = Recorder()
    recorder.broken = True
    _, health = run(recorder, lambda node: show_until(node, lambda: recorder.level() == 2))
    assert set(recorder.all("velocity")) == {(0.0, 0.0)}
    assert health.failed_sends == 1


def test_an_end_at_the_first_fault_ends_it() -> None:
    recorder = Recorder()

    def script(node: Node) -> None:
        node.hear_image(b"no picture", 0, time.monotonic())
        while not any(status["state"] == "ended" for status in recorder.all("status")):
            time.sleep(0.01)

    _, health = run(recorder, script, NodeParameters(autostart=True, end_on_fault=True, deadline_ms=1000.0))
    assert "neither JPEG nor PNG" in health.reason
    assert recorder.all("diagnosis")[-1].values["stops"] == "frame 1"


@pytest.mark.parametrize(
    ("names", "units"),
    [
        (("linear_x", "angular_z"), ("m/s", "rad/s")),
        (("linear_x", "linear_y"), ("m/s", "km/h")),
        (("gripper",), ("m/s",)),
        ((), ()),
    ],
)
def test_an_action_that_a_twist_without_rotation_does_not_hold_is_refused(
    names: tuple[str, ...], units: tuple[str, ...]
) -> None:
    with pytest.raises(InputError, match="a Twist gets linear_x and linear_y in m/s"):
        check_components(names, units)


def test_components_are_told_by_name() -> None:
    assert velocity_of(Command(("linear_y", "linear_x"), (0.1, 0.2), False, "", None, 0.0)) == (0.2, 0.1)
    assert velocity_of(Command(("linear_x",), (0.2,), False, "", None, 0.0)) == (0.2, 0.0)
    assert velocity_of(stop_for(NAMES, "why")) == (0.0, 0.0)


def test_an_instruction_that_the_policy_does_not_know_is_refused_at_the_start() -> None:
    with pytest.raises(InstructionError, match="there is no 'fly'"):
        Node(FakePolicy(), Recorder(), NodeParameters(instruction="fly"), Topics())


@pytest.mark.parametrize(
    "parameters", [NodeParameters(rate_hz=0.0), NodeParameters(rate_hz=1.0), NodeParameters(camera_ms=0.0)]
)
def test_a_parameter_of_the_loop_that_cannot_be_used_is_refused_before_it_runs(
    parameters: NodeParameters,
) -> None:
    with pytest.raises(InputError, match=r"rate_hz|camera_ms"):
        Node(FakePolicy(), Recorder(), parameters, Topics())


def test_a_parent_that_died_while_the_policy_was_loaded_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "_STARTED_BY", -1)
    recorder = Recorder()
    with pytest.raises(VlaError, match="the process that started this one has ended"):
        Node(FakePolicy(), recorder, PARAMETERS, Topics()).run()
    assert recorder.hearing is None
    run(recorder, lambda node: None, replace(PARAMETERS, watch_parent=False))
