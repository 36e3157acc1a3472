"""Several frames at a time, on bundles that were exported with `--batch`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from vla_edge.runtime.bundle.bundle import Bundle, Verification
from vla_edge.runtime.bundle.graph_check import ACTIONS, PIXELS, PROMPT_INPUTS, check_graph
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.engines.session import EngineIdentity, Session

from .action import Action, ActionDecoder
from .errors import ImageError, InputError, NonFiniteActionError
from .instructions import EncodedInstruction, InstructionEncoder
from .opening import frames_at_a_time, one_at_a_time, open_checked
from .preprocess import Channels, Frame, Preprocessor, check_channels

_LOOK = "Look at that frame; the next call starts afresh."


class BatchPolicy:
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

    def __init__(self, bundle: Bundle, session: Session, channels: Channels = "rgb") -> None:
        check_graph(bundle.manifest, batch=None)
        self._bundle = bundle
        self._session = session
        self._preprocess = Preprocessor(bundle.manifest.preprocessing, channels)
        self._instructions = InstructionEncoder(bundle)
        self._decode = ActionDecoder(bundle.manifest.action)
        self._turn = one_at_a_time("BatchPolicy")

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        backend: str = "auto",
        verify: Verification = "full",
        *,
        channels: Channels = "rgb",
        **options: Any,
    ) -> BatchPolicy:
        """Open a bundle, check it, and load it into an engine; arguments and errors as of `Policy.load`."""
        check_channels(channels)
        bundle, session = open_checked(folder, backend, verify, options, batch=None)
        try:
            return cls(bundle, session, channels)
        except BaseException:
            session.close()
            raise

    @property
    def batch(self) -> int:
        """How many frames the engine takes at a time."""
        return frames_at_a_time(self._bundle.manifest)

    @property
    def identity(self) -> EngineIdentity:
        """The engine that runs."""
        return self._session.identity

    @property
    def manifest(self) -> Manifest:
        return self._bundle.manifest

    def warmup(self, runs: int = 3) -> None:
        """Act on empty frames, result unused, so that the first `act` is as fast as later ones.

        Raises:
            EngineError: the engine failed, or the policy is closed or in use.
        """
        with self._turn:
            self._feed(self._instructions.encode(None))
            self._session.inputs[PIXELS].fill(0)
            for _ in range(runs):
                self._session.run()

    def act(self, frames: Sequence[Frame], instruction: str | None = None) -> list[Action | ImageError]:
        """The action of each frame, or why it is none; state is zero before each.

        Args:
            frames: 1 to `batch` of them, each as for `Policy.act`. Places that are left over are run empty.
            instruction: one that the bundle holds; None for its default. The same for all frames.

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

    def close(self) -> None:
        """Free the engine. Calling it again does nothing; nor does calling it in a forked child.

        Raises:
            EngineError: another thread is using the policy.
        """
        if self._turn.closed or not self._turn.home.here:
            return
        with self._turn:
            self._turn.closed = True
            self._session.close()

    def __enter__(self) -> BatchPolicy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        inputs = self._session.inputs
        for name, value in zip(
            PROMPT_INPUTS, (chosen.input_ids, chosen.attention_mask, chosen.index), strict=True
        ):
            if name in inputs:
                inputs[name][:] = value
        for source, _ in self._bundle.manifest.runtime.state:
            inputs[source].fill(0)

    def _prepare(self, frames: Sequence[Frame]) -> dict[int, ImageError]:
        """Write the frames' pixels; what is no frame leaves its place empty."""
        pixels = self._session.inputs[PIXELS]
        pixels.fill(0)
        refused = {at: self._refusal(frame, pixels[at]) for at, frame in enumerate(frames)}
        return {at: error for at, error in refused.items() if error}

    def _refusal(self, frame: Frame, out: Any) -> ImageError | None:
        try:
            self._preprocess(frame, out)
        except ImageError as error:
            return error
        return None

    def _action(self, at: int, chosen: EncodedInstruction, timings_ms: dict[str, float]) -> Action:
        outputs, engine = self._session.outputs, self._session.identity
        try:
            action = self._decode(
                outputs[ACTIONS][at], instruction=chosen.text, engine=engine, timings_ms=timings_ms
            )
        except NonFiniteActionError as error:
            raise NonFiniteActionError(f"frame {at} of the batch: {error.problem}", _LOOK) from error
        for _, target in self._bundle.manifest.runtime.state:  # float32 [layers, batch, hidden]
            if not np.isfinite(outputs[target][:, at]).all():
                raise NonFiniteActionError(
                    f"frame {at} of the batch: the engine returned a state that is not finite.", _LOOK
                )
        return action
