"""The node: a transport's messages in, its velocities out; between them `Controller.run`. It knows no ROS."""

from __future__ import annotations

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.controller import ActingPolicy, Controller
from vla_edge.runtime.control.loop.health import Health
from vla_edge.runtime.control.loop.options import check_run
from vla_edge.runtime.process.parent import require_parent

from .frames import TopicCamera
from .operator import Operator
from .parameters import NodeParameters
from .reports import Reporter, diagnosis_of, state_word, status_text
from .stamped import StampedPolicy
from .topics import NODE, Topics
from .transport import Diagnosis, Transport
from .wheels import Wheels, check_components


class Node:
    """One run from the first stop to the last; it is what a transport tells.

    Args:
        policy: loaded and warmed up; the caller closes it.
        transport: opened; the caller closes it.
        parameters: of the node.
        topics: their names, for errors.

    Raises:
        InputError: an action that no Twist without rotation holds, an instruction that the bundle does not hold, or
            a parameter that cannot be used.
    """

    def __init__(
        self, policy: ActingPolicy, transport: Transport, parameters: NodeParameters, topics: Topics
    ) -> None:
        action = policy.manifest.action
        check_components(action.names, action.units)
        self._transport, self._parameters = transport, parameters
        self._stamped = StampedPolicy(policy)
        turned = getattr(policy, "channels", "rgb") != "rgb"
        self._camera = TopicCamera(
            topics.image,
            parameters.max_image_bytes,
            parameters.use_stamp,
            getattr(policy, "in_order", None) if turned else None,
        )
        self._controller = Controller(self._stamped, parameters.controller_options())
        self._operator = Operator(self._controller, parameters.instruction or None, parameters.autostart)
        self._stamped.at_reset = self._operator.at_reset
        self._wheels = Wheels(transport, self._stamped)
        self._options = parameters.run_options(tuple(action.names))
        check_run(parameters.rate_hz, self._options, tuple(action.names), parameters.held_ms)

    def run(self) -> Health:
        """Drive until `deactivate`, the first fault (`end_on_fault`), the transport's or the parent's end, or a signal.

        Raises:
            InputError: not in the main thread, or a parameter that cannot be used.
            VlaError: the process that started this one has ended while the policy was loaded (`watch_parent`).
            KeyboardInterrupt, SystemExit: a signal, as `stop_on_exit` says.
        """
        if self._parameters.watch_parent:
            require_parent("Nothing was driven. To drive on without it: watch_parent: false.")
        self._transport.begin(self)
        with Reporter(self._transport, self._report, self._wheels.news).reporting():
            return self._controller.run(self._camera, self._wheels, self._parameters.rate_hz, self._options)

    def deactivate(self, reason: str) -> None:
        """Stop within some milliseconds, and let `run` return; from any thread."""
        self._controller.halt(reason, Cause.HALT)
        self._camera.end()

    def hear_image(self, data: bytes, stamp_ns: int, received_s: float) -> None:
        self._camera.put(data, stamp_ns, received_s)

    def hear_task(self, text: str) -> None:
        self._operator.set_task(text)
        self._wheels.news.set()

    def hear_control(self, text: str) -> None:
        self._operator.say(text)
        self._wheels.news.set()

    def hear_failure(self, problem: str) -> None:
        self.deactivate(problem)  # nobody could reset it: whoever started it may start it anew

    def _report(self) -> tuple[str, Diagnosis] | None:
        health = self._controller.health()
        if health is None:
            return None
        state = state_word(health)
        status = status_text(health, state, self._operator.task, self._operator.answer, self._camera.replaced)
        return status, diagnosis_of(health, state, f"{NODE}: policy")
