"""The managed node on a stand-in for rclpy, whose calls are bound to the signatures of the real one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_ros
import numpy as np
import pytest
from lively import jpeg

from vla_edge.runtime.errors import InputError, MissingPackageError, VlaError

_PATIENCE_S = 30.0


@pytest.fixture
def ros(pristine_bundle: Path) -> Iterator[fake_ros.Ros]:
    with fake_ros.installed() as found:
        found.overrides = {
            "bundle": str(pristine_bundle),
            "autostart": True,
            "rate_hz": 50.0,
            "deadline_ms": 5000.0,
        }
        yield found


def drive(ros: fake_ros.Ros, script: Callable[[], None], *, begin: bool = False) -> Any:
    """Run the node while `script` runs beside it, which ends it."""
    from vla_edge.runtime.ros2.ros.node import drive_in_ros

    failures: list[BaseException] = []

    def beside() -> None:
        try:
            script()
        except BaseException as error:
            failures.append(error)
        finally:
            ros.transition("shutdown")

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        return drive_in_ros(["--ros-args"], {"threads": 1}, begin=begin)
    finally:
        thread.join(_PATIENCE_S)
        assert failures == []


def wait_for(what: Callable[[], object]) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def show_until(ros: fake_ros.Ros, what: Callable[[], object]) -> None:
    for seed in range(2000):
        if what():
            return
        show(ros, jpeg(seed))
        time.sleep(0.01)
    raise AssertionError("never")


def show(ros: fake_ros.Ros, data: bytes) -> None:
    message = fake_ros.MESSAGES["sensor_msgs/msg/CompressedImage"](data=np.frombuffer(data, np.uint8))
    message.header.stamp.sec = 12
    ros.deliver("/camera/image/compressed", message)


def levels(ros: fake_ros.Ros) -> list[bytes]:
    return [message.status[0].level for topic, message in ros.published if topic == "/diagnostics"]


def moves(ros: fake_ros.Ros) -> bool:
    return ros.velocities()[-1:] not in ([], [(0.0, 0.0)])


def test_configured_it_stands_active_it_drives_deactivated_it_stands(ros: fake_ros.Ros) -> None:
    def script() -> None:
        assert ros.transition("activate") == fake_ros.Returned.FAILURE  # not configured yet
        assert ros.transition("configure") == fake_ros.Returned.SUCCESS
        assert ros.velocities() == [(0.0, 0.0)]
        for _ in range(2):
            assert ros.transition("activate") == fake_ros.Returned.SUCCESS
            show_until(ros, lambda: moves(ros))
            assert ros.transition("deactivate") == fake_ros.Returned.SUCCESS
            assert not moves(ros)
            before = len(ros.velocities())
            for seed in range(5):
                show(ros, jpeg(seed))
            assert ros.velocities()[before:] == []
        assert ros.transition("cleanup") == fake_ros.Returned.SUCCESS
        assert ros.subscribed == {}

    assert drive(ros, script) is None
    assert not ros.is_up
    assert ros.errors == ["not activated: there is no policy.\nConfigure the node first."]
    topics = {topic for topic, _ in ros.published}
    assert topics == {"/cmd_vel", "/mobile_vla/status", "/mobile_vla/inference_result", "/diagnostics"}


def test_a_node_that_would_obey_itself_is_not_configured(ros: fake_ros.Ros) -> None:
    ros.remappings = {"/mobile_vla/system_control": "/mobile_vla/status"}
    returned: list[str] = []
    drive(ros, lambda: returned.append(ros.transition("configure")))
    assert returned == [fake_ros.Returned.FAILURE]
    assert "two topics of the node would be called /mobile_vla/status" in ros.errors[0]
    assert ros.velocities() == []


def test_a_parameter_that_is_not_known_is_told(ros: fake_ros.Ros) -> None:
    ros.overrides |= {"deadline": 5.0, "use_sim_time": False, "qos_overrides./cmd_vel.publisher.depth": 1}
    drive(ros, lambda: None)
    assert ros.errors == ["there is no parameter deadline: it does nothing."]


def test_words_and_tasks_are_heard(ros: fake_ros.Ros) -> None:
    ros.overrides["autostart"] = False
    text = fake_ros.MESSAGES["std_msgs/msg/String"]

    def script() -> None:
        wait_for(lambda: levels(ros))
        ros.deliver("/mobile_vla/task", text(data="go to the cup"))
        ros.deliver("/mobile_vla/system_control", text(data="start"))
        show_until(ros, lambda: moves(ros))
        ros.deliver("/mobile_vla/system_control", text(data="stop"))
        wait_for(lambda: not moves(ros))

    drive(ros, script, begin=True)
    results = [message.data for topic, message in ros.published if topic == "/mobile_vla/inference_result"]
    assert '"instruction": "go to the cup"' in results[-1]
    assert '"stamp": {"sec": 12, "nanosec": 0}' in results[-1]


def test_the_qualities_of_service_are_those_of_the_table(ros: fake_ros.Ros) -> None:
    drive(ros, lambda: wait_for(lambda: ros.velocities()), begin=True)
    found = {
        topic: (each.reliability.name, each.history.name, each.depth, each.durability.name)
        for topic, each in ros.qualities.items()
    }
    texts = ("RELIABLE", "KEEP_LAST", 10, "VOLATILE")
    assert found == {
        "/camera/image/compressed": ("BEST_EFFORT", "KEEP_LAST", 1, "VOLATILE"),
        "/mobile_vla/task": texts,
        "/mobile_vla/system_control": texts,
        "/cmd_vel": ("RELIABLE", "KEEP_LAST", 1, "VOLATILE"),
        "/mobile_vla/status": ("RELIABLE", "KEEP_LAST", 1, "TRANSIENT_LOCAL"),
        "/mobile_vla/inference_result": texts,
        "/diagnostics": texts,
    }


def test_a_damaged_image_is_a_fault(ros: fake_ros.Ros) -> None:
    def script() -> None:
        show_until(ros, lambda: moves(ros))
        show(ros, b"\xff\xd8\xff no picture")
        wait_for(lambda: not moves(ros))
        wait_for(lambda: levels(ros)[-1:] == [b"\x02"])

    drive(ros, script, begin=True)
    assert ros.velocities()[-1] == (0.0, 0.0)


def test_an_executor_that_fails_stops_and_ends_it(ros: fake_ros.Ros) -> None:
    def script() -> None:
        show_until(ros, lambda: moves(ros))

        def fail() -> None:
            raise RuntimeError("a callback failed")

        ros.call(fail)

    from vla_edge.runtime.ros2.ros.node import drive_in_ros

    thread = threading.Thread(target=script)
    thread.start()
    with pytest.raises(VlaError, match="the executor of ROS failed: RuntimeError: a callback failed"):
        drive_in_ros([], {"threads": 1}, begin=True)
    thread.join()
    assert ros.velocities()[-1] == (0.0, 0.0)


def test_a_signal_ends_it_with_zero(ros: fake_ros.Ros) -> None:
    def script() -> None:
        show_until(ros, lambda: moves(ros))
        os.kill(os.getpid(), signal.SIGTERM)

    from vla_edge.runtime.ros2.ros.node import drive_in_ros

    thread = threading.Thread(target=script)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        drive_in_ros([], {"threads": 1}, begin=True)
    thread.join()
    assert ended.value.code == 128 + signal.SIGTERM
    assert ros.velocities()[-1] == (0.0, 0.0)
    assert not ros.is_up


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"bundle": ""}, "the parameter bundle is empty"),
        ({"bundle": "/no/such/folder"}, "/no/such/folder"),
        ({"rate_hz": -1.0}, "rate_hz is -1.0"),
    ],
)
def test_what_cannot_be_configured_is_logged(
    ros: fake_ros.Ros, overrides: dict[str, Any], words: str
) -> None:
    from vla_edge.runtime.ros2.ros.node import drive_in_ros

    ros.overrides |= overrides
    with pytest.raises(VlaError, match="the node could not be configured"):
        drive_in_ros([], {}, begin=True)
    assert words in ros.errors[-1]


def test_a_parameter_of_another_type_is_told(ros: fake_ros.Ros) -> None:
    from vla_edge.runtime.ros2.ros.node import drive_in_ros

    ros.overrides["rate_hz"] = 10
    with pytest.raises(InputError, match=r"ROS refuses its arguments or a parameter: .*InvalidParameterType"):
        drive_in_ros([], {}, begin=True)


def test_no_attribute_of_the_node_hides_one_of_rclpy(ros: fake_ros.Ros) -> None:
    from vla_edge.runtime.ros2.ros.node import RosNode

    allowed = {
        f"on_{name}" for name in ("configure", "activate", "deactivate", "cleanup", "shutdown", "error")
    }
    ours = {name for name in vars(RosNode) if not name.startswith("__")} | {"vla_edge"}
    for distribution in fake_ros.DISTRIBUTIONS:
        for key in ("rclpy/rclpy/node.py:Node.self", "rclpy/rclpy/lifecycle/node.py:LifecycleNodeMixin.self"):
            assert ours & set(fake_ros.INTERFACE[distribution][key]) <= allowed


def test_the_record_says_where_it_is_from() -> None:
    sources = fake_ros.INTERFACE["sources"]
    assert {(each["repository"], each["branch"]) for each in sources} == {
        (repository, branch)
        for repository in ("ros2/rclpy", "ros2/launch_ros", "ros2/launch")
        for branch in fake_ros.DISTRIBUTIONS
    }
    assert all(len(each["commit"]) == 40 for each in sources)


def test_without_ros_the_way_out_is_told() -> None:
    from vla_edge.runtime.ros2.ros.start import start

    with pytest.raises(MissingPackageError, match="rclpy cannot be imported") as refused:
        start([], {}, begin=True)
    assert "--transport dds" in str(refused.value)
