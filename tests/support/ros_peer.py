"""Camera, operator and base on ROS 2's own rclpy, as a process: told by lines of JSON, tells what it heard by lines.

Run by an interpreter with rclpy (`make ros`); it knows nothing of vla-edge. With a world's remapping of ROS:
`--ros-args -r /cmd_vel:=/base/cmd_vel`.
"""

import base64
import json
import sys
import threading

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

VOLATILE, LASTING = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL


one_at_a_time = threading.Lock()


def tell(kind, value):
    with one_at_a_time:  # threads may print into each other's lines
        print(json.dumps({"kind": kind, "value": value}), flush=True)


class Peer:
    def __init__(self):
        self.node = rclpy.create_node("peer")
        self.images = self.node.create_publisher(
            CompressedImage, "/camera/image/compressed", qos_profile_sensor_data
        )
        self.texts = {
            "task": self.node.create_publisher(String, "/mobile_vla/task", 10),
            "control": self.node.create_publisher(String, "/mobile_vla/system_control", 10),
        }
        self.change = self.node.create_client(ChangeState, "/vla_edge/change_state")
        self.hear(Twist, "/cmd_vel", VOLATILE, self.velocity)
        self.hear(
            String, "/mobile_vla/status", LASTING, lambda message: tell("status", json.loads(message.data))
        )
        self.hear(
            String,
            "/mobile_vla/inference_result",
            VOLATILE,
            lambda message: tell("result", json.loads(message.data)),
        )
        self.hear(DiagnosticArray, "/diagnostics", VOLATILE, self.diagnosis)

    def hear(self, kind, topic, durability, tell_it):
        self.node.create_subscription(kind, topic, tell_it, QoSProfile(depth=10, durability=durability))

    def velocity(self, message):
        rest = (message.linear.z, message.angular.x, message.angular.y, message.angular.z)
        tell("velocity", [message.linear.x, message.linear.y, *rest])

    def diagnosis(self, message):
        tell("diagnosis", [message.status[0].level[0], message.status[0].message])

    def obey(self, order, value):
        if order == "image":
            message = CompressedImage()
            message.header.stamp = self.node.get_clock().now().to_msg()
            message.format, message.data = "jpeg", base64.b64decode(value)
            self.images.publish(message)
        elif order in self.texts:
            self.texts[order].publish(String(data=value))
        else:
            wanted = Transition(id=getattr(Transition, f"TRANSITION_{value.upper()}"))
            self.change.wait_for_service(timeout_sec=20)
            done = self.change.call_async(ChangeState.Request(transition=wanted))
            done.add_done_callback(lambda future: tell("transition", [value, future.result().success]))


def main():
    rclpy.init(args=sys.argv)
    peer = Peer()
    executor = SingleThreadedExecutor()
    executor.add_node(peer.node)

    def spin():
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    threading.Thread(target=spin, daemon=True).start()
    tell("ready", None)
    for line in sys.stdin:
        told = json.loads(line)
        peer.obey(told["order"], told["value"])


if __name__ == "__main__":
    main()
