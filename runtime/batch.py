"""Several frames at a time, on bundles that were exported with `--batch`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .action import Action
from .errors import ImageError, InputError, NonFiniteActionError
from .instructions import EncodedInstruction
from .opening import OpenedPolicy
from .preprocess import Frame

_LOOK = "Look at that frame; the next call starts afresh."


class BatchPolicy(OpenedPolicy):
    """A policy on frames that have nothing to do with each other: every frame is an episode of its own.

    For recorded frames. A robot acts on one frame at a time, with `Policy`. One thread and one process at a time,
    as for `Policy`. Every call writes all of the engine's inputs, so that nothing is left of an earlier one,
    whether it succeeded, failed or was interrupted: there is no `reset`.

    Args:
        bundle: an opened bundle of any batch.
        session: that bundle in an engine; the policy closes it.
        channels: as for `Policy.load`.

    Raises:
        BundleError: the manifest describes a graph that this class cannot feed.
    """

    _takes = None

    @property
    def batch(self) -> int:
        """How many frames the engine takes at a time."""
        return self._bundle.manifest.batch

    def warmup(self, runs: int = 3) -> None:
        """Act on empty frames, result unused, so that the first `act` is as fast as later ones.

        Raises:
            EngineError: the engine failed, or the policy is closed or in use.
        """
        with self._turn:
            self._feed(self._instructions.encode(None))
            self._image.fill(0)
            for _ in range(runs):
                self._session.run()

    def act(self, frames: Sequence[Frame], instruction: str | None = None) -> list[Action | ImageError]:
        """The action of each frame, or why it is none; state is zero before each.

        Args:
            frames: 1 to `batch` of them, each as for `Policy.act`. Places that are left over are run empty.
            instruction: one that the bundle holds; None for its default, and for a policy without text. The same
                for all frames.

        Returns:
            One for each frame, in their order. `timings_ms` are those of the whole call.

        Raises:
            InputError: no frame, more than `batch`, or no sequence of frames.
            NonFiniteActionError: the engine returned NaN or infinity for a frame; no action of the call counts.
            InstructionError, EngineError: as for `Policy.act`.
        """
        with self._turn:
            start = time.perf_counter()
            listed = self._listed(frames)
            chosen = self._instructions.encode(instruction)
            self._feed(chosen)
            refused = self._prepare(listed)
            began = time.perf_counter()
            self._session.run()
            ended = time.perf_counter()
            timings_ms = {"preprocess": (began - start) * 1e3, "engine": (ended - began) * 1e3}
            timings_ms["total"] = timings_ms["preprocess"] + timings_ms["engine"]
            return [
                refused.get(at) or self._action(at, chosen, dict(timings_ms)) for at in range(len(listed))
            ]

    def _listed(self, frames: Sequence[Frame]) -> list[Frame]:
        if not isinstance(frames, (Sequence, np.ndarray)) or isinstance(frames, (str, bytes)):
            raise InputError(
                f"a {type(frames).__name__} is no sequence of frames.", "Give a list, also of a single frame."
            )
        if isinstance(frames, np.ndarray) and frames.ndim != 4:
            raise InputError(
                f"an array of shape {list(frames.shape)} is no sequence of frames.", "Give a list of frames."
            )
        if not 1 <= len(frames) <= self.batch:
            raise InputError(
                f"{len(frames)} frames do not fit a batch of {self.batch}.", "Give fewer at a time."
            )
        return list(frames)

    def _feed(self, chosen: EncodedInstruction) -> None:
        self._write_prompt(chosen)
        for source, _ in self._state:
            source.fill(0)

    def _prepare(self, frames: Sequence[Frame]) -> dict[int, ImageError]:
        """Write the frames; what is no frame leaves its place empty."""
        self._image.fill(0)
        refused = {at: self._refusal(frame, self._image[at]) for at, frame in enumerate(frames)}
        return {at: error for at, error in refused.items() if error}

    def _refusal(self, frame: Frame, out: Any) -> ImageError | None:
        try:
            self._write_image(frame, out)
        except ImageError as error:
            return error
        return None

    def _action(self, at: int, chosen: EncodedInstruction, timings_ms: dict[str, float]) -> Action:
        engine = self._session.identity
        try:
            action = self._decode(
                self._actions[at], instruction=chosen.text, engine=engine, timings_ms=timings_ms
            )
        except NonFiniteActionError as error:
            raise NonFiniteActionError(f"frame {at} of the batch: {error.problem}", _LOOK) from error
        for _, target in self._state:  # float32 [layers, batch, hidden]
            if not np.isfinite(target[:, at]).all():
                raise NonFiniteActionError(
                    f"frame {at} of the batch: the engine returned a state that is not finite.", _LOOK
                )
        return action
