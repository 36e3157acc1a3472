"""A managed node: configured, it has its policy; active, it drives; deactivated, it stands.

The executor has a thread of its own. The loop runs in the main thread, where Python handles signals, and waits for
nothing of ROS. A transition of ROS only tells it to begin or to end, and waits until it has.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions

from vla_edge.runtime.control.loop.health import Health
from vla_edge.runtime.control.warm_policy import warm_policy
from vla_edge.runtime.engine_options import EngineArguments
from vla_edge.runtime.errors import InputError, VlaError
from vla_edge.runtime.foreign import words_of
from vla_edge.runtime.policy import Policy
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.ros2.node import Node
from vla_edge.runtime.ros2.parameters import NodeParameters, parameters_from
from vla_edge.runtime.ros2.topics import NODE, Topics, check_distinct

from .transport import RosTransport

_KNOWN = {field.name for field in fields(NodeParameters)} | {"use_sim_time", "start_type_description_service"}
_STOP_S = 2.0  # for the loop's last command, when it is told to end


class Driving:
    """What the managed node does; apart from it, so that no attribute hides one of rclpy's own.

    Args:
        node: that is managed; its parameters are declared.
        given: for `Policy.load`.
    """

    def __init__(self, node: LifecycleNode, given: EngineArguments) -> None:
        self._ros, self._given = node, given
        self._parameters = NodeParameters()
        self._opened = contextlib.ExitStack()
        self._policy: Policy | None = None
        self._transport: RosTransport | None = None
        self._driving: Node | None = None
        self._to_drive: queue.Queue[Node | None] = queue.Queue()
        self._failure = ""
        self._at_rest = threading.Event()
        self._at_rest.set()

    def serve(self) -> Health | None:
        """In the main thread: drive each time the node is activated, until it is shut down.

        Returns:
            How it was, where the loop ended by itself: a fault with `end_on_fault`, or the parent's death.

        Raises:
            VlaError: ROS has failed: nothing is heard any more. The robot stands.
        """
        while (driving := self._to_drive.get()) is not None:
            try:
                health = driving.run()
            finally:
                self._at_rest.set()
            if driving is self._driving:  # nobody has told it to end
                return health
        if self._failure:
            raise VlaError(self._failure, "Start the node anew.")
        return None

    def fail(self, problem: str) -> None:
        """The executor has ended, and nobody could reset or stop: stop, and have `serve` end the program."""
        self._failure = problem
        driving, self._driving = self._driving, None
        if driving is not None:
            driving.deactivate(problem)
        self._to_drive.put(None)

    def configure(self) -> None:
        """Load the policy.

        Raises:
            VlaError: a parameter, a remapping or the bundle cannot be used.
        """
        values = {field.name: self._ros.get_parameter(field.name).value for field in fields(NodeParameters)}
        self._parameters = parameters_from(values, f"the parameters of {NODE}")
        if not self._parameters.bundle:
            raise InputError("the parameter bundle is empty.", "Give the folder of a bundle.")
        check_distinct(self._topics())
        with contextlib.ExitStack() as opened:
            # closed last: its engine may hang
            self._policy = opened.enter_context(warm_policy(Path(self._parameters.bundle), self._given))
            self._transport = opened.enter_context(contextlib.closing(RosTransport(self._ros, Topics())))
            self._opened = opened.pop_all()

    def activate(self) -> None:
        """Have `serve` begin the loop.

        Raises:
            VlaError: a parameter or the bundle's action cannot be used.
        """
        if self._policy is None or self._transport is None:
            raise InputError("there is no policy.", "Configure the node first.")
        self._driving = Node(self._policy, self._transport, self._parameters, self._topics())
        self._at_rest.clear()
        self._to_drive.put(self._driving)

    def _topics(self) -> Topics:
        """As ROS has remapped them."""
        names = (getattr(Topics(), each.name) for each in fields(Topics))
        return Topics(*(self._ros.resolve_topic_name(name) for name in names))

    def deactivate(self, reason: str = "the node was deactivated.") -> None:
        """Zero velocity, and the loop's end; where it is not active, nothing.

        Raises:
            RuntimeError: the loop does not end. Zero velocity was said nevertheless.
        """
        driving, self._driving = self._driving, None
        if driving is None:
            return
        driving.deactivate(reason)
        rested = self._at_rest.wait(_STOP_S)
        if self._transport is not None:
            self._transport.end()
            self._transport.send_velocity(0.0, 0.0)
        if not rested:
            raise RuntimeError(
                f"the loop has not ended within {_STOP_S:g} s; zero velocity was said without it"
            )

    def close(self) -> None:
        """Stop, and free everything; also a second time."""
        self.deactivate("the node is closed.")
        self._opened.close()
        self._policy = self._transport = None

    def end(self) -> None:
        """Stop, free everything, and let `serve` return."""
        try:
            self.close()
        finally:
            self._to_drive.put(None)


class RosNode(LifecycleNode):
    """The managed node.

    Args:
        given: for `Policy.load`.
    """

    def __init__(self, given: EngineArguments) -> None:
        super().__init__(NODE)
        self.declare_parameters("", [(field.name, field.default) for field in fields(NodeParameters)])
        # rclpy passes over what nobody declares, and has no public way to it; those of every node are among them
        for name in sorted(getattr(self, "_parameter_overrides", {})):
            if name not in _KNOWN and not name.startswith("qos_overrides."):
                self.get_logger().error(f"there is no parameter {one_line(name)}: it does nothing.")
        self.vla_edge = Driving(self, given)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the policy, which may take minutes."""
        return _done(self, "configured", self.vla_edge.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin the loop: it waits for `start`, unless `autostart` is set."""
        return _done(self, "activated", self.vla_edge.activate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Zero velocity, and the loop's end."""
        return _done(self, "deactivated", self.vla_edge.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the policy."""
        return _done(self, "cleaned up", self.vla_edge.close)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Zero velocity, free everything, end the program."""
        return _done(self, "shut down", self.vla_edge.end)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that failed half way: as a cleanup."""
        return _done(self, "cleaned up after an error", self.vla_edge.close)


def _done(node: LifecycleNode, name: str, work: Callable[[], None]) -> TransitionCallbackReturn:
    """Errors are told here: rclpy drops what leaves a transition without a word."""
    try:
        work()
    except VlaError as error:
        node.get_logger().error(f"not {name}: {error}")
        return TransitionCallbackReturn.FAILURE
    except Exception as error:
        node.get_logger().error(f"not {name}: {words_of(error)}")
        return TransitionCallbackReturn.ERROR
    return TransitionCallbackReturn.SUCCESS


def drive_in_ros(arguments: Sequence[str], given: EngineArguments, *, begin: bool) -> Health | None:
    """Run the node until it is shut down, or a signal comes.

    Args:
        arguments: of ROS, from `--ros-args` on.
        given: for `Policy.load`.
        begin: whether it configures and activates itself, instead of waiting for somebody who does.

    Raises:
        InputError: ROS refuses its arguments or a parameter.
        VlaError: it was to begin and could not.
        KeyboardInterrupt, SystemExit: a signal; the last velocity was zero.
    """
    try:
        # ROS' own handlers would end the context before the last velocity
        rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
        node = RosNode(given)
    except Exception as error:  # of rclpy's many kinds
        raise InputError(
            f"ROS refuses its arguments or a parameter: {words_of(error)}.", "Look at --params-file and -p."
        ) from error
    try:
        try:
            if begin:
                _begin(node)
            with _spinning(node):
                return node.vla_edge.serve()
        finally:
            node.vla_edge.close()
            node.destroy_node()
    finally:
        if rclpy.ok():
            rclpy.shutdown()


def _begin(node: RosNode) -> None:
    for name, trigger in (("configured", node.trigger_configure), ("activated", node.trigger_activate)):
        if trigger() != TransitionCallbackReturn.SUCCESS:
            raise VlaError(f"the node could not be {name}.", "Its log says why.")


@contextlib.contextmanager
def _spinning(node: RosNode) -> Iterator[None]:
    """The executor in a thread of its own."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            node.vla_edge.fail("ROS was shut down.")
        except Exception as error:
            node.vla_edge.fail(f"the executor of ROS failed: {words_of(error)}")

    thread = threading.Thread(target=spin, name="ros", daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown(timeout_sec=_STOP_S)
        thread.join(_STOP_S)
