"""The node's transport on rclpy: publishers that any thread uses, subscriptions that the executor's thread serves."""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Twist
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from vla_edge.runtime.ros2.qualities import LAST_STATUS, LATEST_COMMAND, SENSOR, TEXTS, Quality
from vla_edge.runtime.ros2.topics import Topics
from vla_edge.runtime.ros2.transport import Diagnosis, Hearing

_NS = 1_000_000_000
_ACKNOWLEDGED_S = 0.5


def _qos(quality: Quality) -> Any:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=quality.depth,
        reliability=ReliabilityPolicy.RELIABLE if quality.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if quality.lasting else DurabilityPolicy.VOLATILE,
    )


class RosTransport:
    """See `Transport`. Its publishers are no lifecycle publishers: a stop must go out in any state of the node.

    Args:
        node: that owns publishers and subscriptions. Names are remapped by ROS itself.
        topics: as they are without remapping.
    """

    def __init__(self, node: LifecycleNode, topics: Topics) -> None:
        self._node = node
        self._hearing: Hearing | None = None
        texts, sensor = _qos(TEXTS), _qos(SENSOR)
        self._velocity = node.create_publisher(Twist, topics.velocity, _qos(LATEST_COMMAND))
        self._status = node.create_publisher(String, topics.status, _qos(LAST_STATUS))
        self._result = node.create_publisher(String, topics.result, texts)
        self._diagnostics = node.create_publisher(DiagnosticArray, topics.diagnostics, texts)
        self._subscriptions = [
            node.create_subscription(CompressedImage, topics.image, self._image, sensor),
            node.create_subscription(String, topics.task, self._task, texts),
            node.create_subscription(String, topics.control, self._control, texts),
        ]
        self.send_velocity(0.0, 0.0)

    def begin(self, hearing: Hearing) -> None:
        self._hearing = hearing

    def end(self) -> None:
        """What comes is heard by nobody."""
        self._hearing = None

    def send_velocity(self, x: float, y: float) -> None:
        message = Twist()
        message.linear.x, message.linear.y = x, y
        self._velocity.publish(message)

    def send_status(self, text: str) -> None:
        self._status.publish(String(data=text))

    def send_result(self, text: str) -> None:
        self._result.publish(String(data=text))

    def send_diagnosis(self, diagnosis: Diagnosis) -> None:
        status = DiagnosticStatus()
        status.level = bytes([diagnosis.level])  # rclpy's type of a `byte`
        status.name, status.message = diagnosis.name, diagnosis.message
        status.values = [KeyValue(key=key, value=value) for key, value in diagnosis.values.items()]
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [status]
        self._diagnostics.publish(message)

    def close(self) -> None:
        """Zero once more, then wait a moment until it has come through."""
        self.end()
        self.send_velocity(0.0, 0.0)
        self._velocity.wait_for_all_acked(Duration(seconds=_ACKNOWLEDGED_S))
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for publisher in (self._velocity, self._status, self._result, self._diagnostics):
            self._node.destroy_publisher(publisher)

    def _image(self, message: Any) -> None:
        came_s = time.monotonic()
        if self._hearing is not None:
            stamp = message.header.stamp
            self._hearing.hear_image(bytes(message.data), stamp.sec * _NS + stamp.nanosec, came_s)

    def _task(self, message: Any) -> None:
        if self._hearing is not None:
            self._hearing.hear_task(message.data)

    def _control(self, message: Any) -> None:
        if self._hearing is not None:
            self._hearing.hear_control(message.data)
