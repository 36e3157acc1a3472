"""As much of rclpy as the node uses, without ROS: what is called is bound to the signatures of Humble and of the
development branch (`ros_interface.json`, with its sources), and messages have ROS 2's own fields and types.
"""

from __future__ import annotations

import enum
import inspect
import json
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

from rosbags.typesys import Stores, get_typestore

INTERFACE = json.loads(Path(__file__).with_name("ros_interface.json").read_text())
DISTRIBUTIONS = ("humble", "rolling")
_STORE = get_typestore(Stores.ROS2_HUMBLE)
_PLAIN = {"float64": float, "string": str, "octet": bytes, "byte": bytes, "int32": int, "uint32": int}
_AnyCallable = TypeVar("_AnyCallable", bound=Callable[..., Any])


def signature(distribution: str, key: str) -> inspect.Signature:
    """As recorded."""
    made: dict[str, Any] = {}
    exec(f"def function{INTERFACE[distribution][key]}: ...", made)
    return inspect.signature(made["function"])


def bind(key: str, *given: Any, **named: Any) -> None:
    """Refuse a call that either distribution would."""
    for distribution in DISTRIBUTIONS:
        signature(distribution, key).bind(*given, **named)


def as_in(key: str) -> Callable[[_AnyCallable], _AnyCallable]:
    """The function takes what the recorded one does."""

    def wrap(function: _AnyCallable) -> _AnyCallable:
        def checked(*given: Any, **named: Any) -> Any:
            bind(key, *given, **named)
            return function(*given, **named)

        return checked  # type: ignore[return-value]

    return wrap


def enumeration(name: str, key: str) -> Any:
    """With the members that both distributions have."""
    members = [each for each in INTERFACE["humble"][key] if each in INTERFACE["rolling"][key]]
    return enum.Enum(name, members)


_RCLPY = "rclpy/rclpy"
_NODE = f"{_RCLPY}/node.py:Node"
_LIFECYCLE = f"{_RCLPY}/lifecycle/node.py:LifecycleNodeMixin"
_EXECUTOR = f"{_RCLPY}/executors.py:Executor"
_PUBLISHER = f"{_RCLPY}/publisher.py:Publisher"

Returned = enumeration(
    "TransitionCallbackReturn", "rclpy/src/rclpy/lifecycle.cpp:TransitionCallbackReturnType"
)
SignalHandlerOptions = enumeration(
    "SignalHandlerOptions", "rclpy/src/rclpy/signal_handler.cpp:SignalHandlerOptions"
)


class Ros:
    """The world of one `rclpy.init`.

    Attributes:
        overrides: parameters that somebody has set.
        published: topic and message.
        qualities: the QoSProfile of each topic.
        errors: that were logged.
        node: the latest.
    """

    def __init__(self) -> None:
        self.overrides: dict[str, Any] = {}
        self.remappings: dict[str, str] = {}
        self.arguments: list[str] = []
        self.published: list[tuple[str, Any]] = []
        self.qualities: dict[str, Any] = {}
        self.subscribed: dict[str, Callable[[Any], None]] = {}
        self.errors: list[str] = []
        self.node: Any = None
        self.is_up = False
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def call(self, work: Callable[[], Any]) -> Any:
        """Have the executor's thread do it; what it returned."""
        done, found = threading.Event(), []

        def do() -> None:
            try:
                found.append(work())
            finally:
                done.set()

        self._work.put(do)
        assert done.wait(30), "the executor does not spin"
        return found[0] if found else None

    def deliver(self, topic: str, message: Any) -> None:
        self.call(lambda: topic in self.subscribed and self.subscribed[topic](message))

    def transition(self, name: str) -> Any:
        """What the callback returned; as rclpy, an exception is an ERROR without a word."""

        def change() -> Any:
            try:
                return getattr(self.node, f"on_{name}")(None)
            except Exception:
                return Returned.ERROR

        return self.call(change)

    def velocities(self) -> list[tuple[float, float]]:
        return [(each.linear.x, each.linear.y) for topic, each in self.published if topic == "/cmd_vel"]

    def spin(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def end_spinning(self) -> None:
        self._work.put(None)


def _message(kind: str) -> type:
    """A class as rosidl makes it for Python: each field has its type, and refuses another."""
    told = _STORE.fielddefs[kind][1]

    class Message:
        __slots__ = tuple(name for name, _ in told)

        def __init__(self, **given: Any) -> None:
            for name, (node, detail) in told:
                if name not in given:
                    given[name] = _default(node.name, detail)
            for name, value in given.items():
                setattr(self, name, value)

        def __setattr__(self, name: str, value: Any) -> None:
            node, detail = dict(told)[name]
            if node.name == "BASE":
                assert isinstance(value, _PLAIN[detail[0]]), (kind, name, value)
            object.__setattr__(self, name, value)

    Message.__name__ = kind.rpartition("/")[2]
    return Message


def _default(node: str, detail: Any) -> Any:
    if node == "NAME":
        return MESSAGES[detail]()
    if node == "BASE":
        return b"\0" if _PLAIN[detail[0]] is bytes else _PLAIN[detail[0]]()
    return []


MESSAGES: dict[str, Any] = {}
for _kind in (
    "builtin_interfaces/msg/Time",
    "std_msgs/msg/Header",
    "std_msgs/msg/String",
    "sensor_msgs/msg/CompressedImage",
    "geometry_msgs/msg/Vector3",
    "geometry_msgs/msg/Twist",
    "diagnostic_msgs/msg/KeyValue",
    "diagnostic_msgs/msg/DiagnosticStatus",
    "diagnostic_msgs/msg/DiagnosticArray",
):
    MESSAGES[_kind] = _message(_kind)


class ExternalShutdownError(Exception):
    pass


class QoSProfile(SimpleNamespace):
    def __init__(self, **given: Any) -> None:
        for distribution in DISTRIBUTIONS:
            known = INTERFACE[distribution][f"{_RCLPY}/qos.py:QoSProfile.__slots__"]
            assert set(given) <= set(known)
        super().__init__(**given)


class Duration:
    @as_in(f"{_RCLPY}/duration.py:Duration.__init__")
    def __init__(self, *, seconds: float = 0, nanoseconds: int = 0) -> None: ...


def modules(ros: Ros) -> dict[str, ModuleType]:
    """To be put into `sys.modules`."""

    class Publisher:
        def __init__(self, topic: str, kind: type) -> None:
            self.topic, self.kind = topic, kind

        @as_in(f"{_PUBLISHER}.publish")
        def publish(self, msg: Any) -> None:
            assert type(msg) is self.kind
            assert self.topic is not None, "destroyed"
            ros.published.append((self.topic, msg))

        @as_in(f"{_PUBLISHER}.wait_for_all_acked")
        def wait_for_all_acked(self, timeout: Any = None) -> bool:
            assert isinstance(timeout, Duration)
            return True

    class Clock:
        @as_in(f"{_RCLPY}/clock.py:Clock.now")
        def now(self) -> Any:
            bind(f"{_RCLPY}/time.py:Time.to_msg", self)
            return SimpleNamespace(to_msg=MESSAGES["builtin_interfaces/msg/Time"])

    class Logger:
        @as_in(f"{_RCLPY}/impl/rcutils_logger.py:RcutilsLogger.error")
        def error(self, message: str) -> None:
            ros.errors.append(message)

    class LifecycleNode:
        @as_in(f"{_RCLPY}/lifecycle/node.py:LifecycleNode.__init__")
        def __init__(self, node_name: str) -> None:
            assert ros.is_up
            self.declared: dict[str, Any] = {}
            self._parameter_overrides = ros.overrides
            ros.node = self

        @as_in(f"{_NODE}.declare_parameters")
        def declare_parameters(self, namespace: str, parameters: list[tuple[str, Any]]) -> None:
            self.declared = dict(parameters)
            for name in self.declared.keys() & ros.overrides.keys():
                value = ros.overrides[name]
                assert type(value) is type(self.declared[name]), "InvalidParameterTypeException"
                self.declared[name] = value

        @as_in(f"{_NODE}.get_parameter")
        def get_parameter(self, name: str) -> Any:
            return SimpleNamespace(value=self.declared[name])

        @as_in(f"{_NODE}.create_publisher")
        def create_publisher(self, msg_type: type, topic: str, qos_profile: Any) -> Publisher:
            ros.qualities[topic] = qos_profile
            return Publisher(topic, msg_type)

        @as_in(f"{_NODE}.create_subscription")
        def create_subscription(self, msg_type: type, topic: str, callback: Any, qos_profile: Any) -> str:
            ros.qualities[topic] = qos_profile
            ros.subscribed[topic] = callback
            return topic

        @as_in(f"{_NODE}.destroy_publisher")
        def destroy_publisher(self, publisher: Publisher) -> bool:
            publisher.topic = None  # type: ignore[assignment]
            return True

        @as_in(f"{_NODE}.destroy_subscription")
        def destroy_subscription(self, subscription: str) -> bool:
            return ros.subscribed.pop(subscription, None) is not None

        @as_in(f"{_NODE}.resolve_topic_name")
        def resolve_topic_name(self, topic: str) -> str:
            return ros.remappings.get(topic, topic)

        @as_in(f"{_NODE}.get_clock")
        def get_clock(self) -> Clock:
            return Clock()

        @as_in(f"{_NODE}.get_logger")
        def get_logger(self) -> Logger:
            return Logger()

        @as_in(f"{_NODE}.destroy_node")
        def destroy_node(self) -> None: ...

        @as_in(f"{_LIFECYCLE}.trigger_configure")
        def trigger_configure(self) -> Any:
            return self.on_configure(None)  # type: ignore[attr-defined]

        @as_in(f"{_LIFECYCLE}.trigger_activate")
        def trigger_activate(self) -> Any:
            return self.on_activate(None)  # type: ignore[attr-defined]

    class SingleThreadedExecutor:
        @as_in(f"{_RCLPY}/executors.py:SingleThreadedExecutor.__init__")
        def __init__(self) -> None: ...

        @as_in(f"{_EXECUTOR}.add_node")
        def add_node(self, node: Any) -> bool:
            return True

        @as_in(f"{_EXECUTOR}.spin")
        def spin(self) -> None:
            ros.spin()

        @as_in(f"{_EXECUTOR}.shutdown")
        def shutdown(self, timeout_sec: float | None = None) -> bool:
            ros.end_spinning()
            return True

    @as_in(f"{_RCLPY}/__init__.py:init")
    def init(*, args: list[str], signal_handler_options: Any) -> None:
        ros.is_up, ros.arguments = True, args
        assert signal_handler_options is SignalHandlerOptions.NO

    @as_in(f"{_RCLPY}/__init__.py:shutdown")
    def shutdown() -> None:
        ros.is_up = False

    @as_in(f"{_RCLPY}/utilities.py:ok")
    def ok() -> bool:
        return ros.is_up

    holds: dict[str, dict[str, Any]] = {
        "rclpy": {"init": init, "shutdown": shutdown, "ok": ok},
        "rclpy.duration": {"Duration": Duration},
        "rclpy.executors": {
            "ExternalShutdownException": ExternalShutdownError,
            "SingleThreadedExecutor": SingleThreadedExecutor,
        },
        "rclpy.lifecycle": {
            "LifecycleNode": LifecycleNode,
            "LifecycleState": SimpleNamespace,
            "TransitionCallbackReturn": Returned,
        },
        "rclpy.qos": {
            name: enumeration(name, f"{_RCLPY}/qos.py:{name}")
            for name in ("DurabilityPolicy", "HistoryPolicy", "ReliabilityPolicy")
        }
        | {"QoSProfile": QoSProfile},
        "rclpy.signals": {"SignalHandlerOptions": SignalHandlerOptions},
    }
    for kind, message in MESSAGES.items():
        package, _, name = kind.split("/")
        holds.setdefault(package, {})
        holds.setdefault(f"{package}.msg", {})[name] = message
    made = {}
    for name, values in holds.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(values, __path__=[])
    return made


@contextmanager
def installed() -> Iterator[Ros]:
    """Importable meanwhile, with the room that stands on it; nothing of either stays."""
    room = "vla_edge.runtime.ros2.ros"
    before = dict(sys.modules)
    ros = Ros()
    sys.modules.update(modules(ros))
    try:
        yield ros
    finally:
        for name in [*modules(ros), *(each for each in sys.modules if each.startswith(f"{room}."))]:
            sys.modules.pop(name, None)
        sys.modules.update({name: module for name, module in before.items() if name not in sys.modules})
