"""A thread that takes what comes from some readers and passes it on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from cyclonedds.core import GuardCondition, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.util import duration

from vla_edge.runtime.foreign import words_of

from .participant import Participant

Tell = Callable[[Any, float], object]  # a message, and the monotonic seconds at which it came

_LOOK_S = 0.5
_JOIN_S = 1.0
_AT_ONCE = 16
_ANY = SampleState.Any | ViewState.Any | InstanceState.Any


class Listening:
    """Hears from the beginning until it is closed.

    Args:
        participant: joined; of the readers.
        heard: each reader with what is told its messages, in the order in which they are asked.
        failed: is told, in words, that nothing can be heard any more.
        look: called after each look at the readers, twice a second at least.
    """

    def __init__(
        self,
        participant: Participant,
        heard: Sequence[tuple[Any, Tell]],
        failed: Callable[[str], object],
        look: Callable[[], object] = lambda: None,
    ) -> None:
        self._heard, self._failed, self._look = [*heard], failed, look
        self._over = GuardCondition(participant.entity)
        self._waiting = WaitSet(participant.entity)
        self._conditions = [ReadCondition(each, _ANY) for each, _ in self._heard]
        for condition in (self._over, *self._conditions):
            self._waiting.attach(condition)
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="dds", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and let go of the readers."""
        self._closing = True
        self._over.set(True)
        self._thread.join(_JOIN_S)
        for condition in (self._over, *self._conditions):
            self._waiting.detach(condition)
        self._conditions.clear()
        self._heard.clear()

    def _listen(self) -> None:
        try:
            while not self._closing:
                self._waiting.wait(duration(seconds=_LOOK_S))
                for each, tell in self._heard:
                    self._take(each, tell)
                self._look()
        except BaseException as error:  # whatever it is: nothing is heard any more
            self._failed(f"nothing can be heard any more: {words_of(error)}")

    def _take(self, each: Any, tell: Tell) -> None:
        found = each.take(N=_AT_ONCE)
        came_s = time.monotonic()
        for message in found:
            if message.sample_info.valid_data:  # else a writer has left
                tell(message, came_s)
