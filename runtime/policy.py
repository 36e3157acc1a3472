"""A policy on an engine: frames in, actions out."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Channels
from vla_edge.runtime.engines.session import HostWork, Session, nothing

from .action import Action
from .errors import EngineError, ImageError, InputError, InstructionError, NonFiniteActionError
from .instructions import EncodedInstruction
from .opening import OpenedPolicy
from .preprocess import Frame


class Policy(OpenedPolicy):
    """An exported policy, loaded and ready to act.

    Not thread safe: the engine's buffers belong to one call at a time. A call from a second thread while
    one is under way raises EngineError instead of mixing two frames. A child that was forked after `load`
    has no engine: there every use raises EngineError, `close` does nothing, and the parent goes on undisturbed.

    Example:
        with Policy.load("engines/hybrid-fp16") as policy:
            policy.warmup()
            action = policy.act(frame, "컵까지 가세요")
            drive(action.linear_x, action.linear_y)

    Args:
        bundle: an opened bundle of batch 1.
        session: that bundle in an engine; the policy closes it.
        channels: see `load`.

    Raises:
        BundleError: the manifest describes a graph that this class cannot feed.
        InputError: the bundle's batch is not 1, or unknown channels or others than its camera has.
    """

    _takes = 1

    def __init__(self, bundle: Bundle, session: Session, channels: Channels | None = None) -> None:
        super().__init__(bundle, session, channels)
        self._output = self._actions[0]
        self._holds_first = bundle.manifest.runtime.frame == "first"
        self._held: Action | None = None
        self._bound: EncodedInstruction | None = None
        self._refusal = ""  # why it does not go on before `reset`

    @property
    def session(self) -> Session:
        """The engine's session, for benchmarks; it belongs to the policy."""
        return self._session

    @property
    def pixel_values(self) -> np.ndarray:
        """The engine's own input, float32 [1, 3, H, W], page-locked on a GPU.

        Whoever prepares pixels himself can write them here and hand this array to `act_preprocessed`, which
        then copies nothing.

        Raises:
            InputError: the bundle takes its camera's frames as they are, in `frame`.
        """
        self._require_pixels()
        return self._image

    @property
    def frame(self) -> np.ndarray:
        """The engine's own input of a bundle with a camera, uint8 [1, height, width, 3], page-locked on a GPU.

        A camera's driver can write its frames here; `act` of this array, or of its only row, then copies nothing. In
        the order of `channels`. Not to be written to while `act` runs.

        Raises:
            InputError: the bundle takes pixels, which `act` prepares of frames of any size.
        """
        if self.manifest.camera is None:
            raise InputError(
                f"the bundle {self.manifest.name!r} takes no camera's frames as they are.",
                "Give frames to act(), or export it with vla-export --camera HEIGHTxWIDTH.",
            )
        return self._image

    @property
    def instructions(self) -> tuple[str, ...]:
        """The declared instructions; none of a policy without text."""
        return self._instructions.texts

    def check_instruction(self, instruction: str | None) -> None:
        """Refuse an instruction that `act` would refuse; from any thread, also while `act` runs in another.

        Raises:
            InstructionError: the bundle does not hold it; names the nearest one that it does.
        """
        self._instructions.encode(instruction)

    def warmup(self, runs: int = 3) -> None:
        """Act on an even grey frame, result unused, so that the first `act` is as fast as later ones.

        What an episode carries (state, held action) stays as it is; what was written into `frame` or `pixel_values`
        does not.

        Args:
            runs: how many times.

        Raises:
            EngineError: the engine failed, or the policy is closed or in use.
        """
        with self._turn:
            if self.manifest.camera:
                self._image.fill(128)
            else:
                height, width = self._image.shape[2:]
                # Another size than the target's, so that Pillow's resize is warm too.
                self._write_image(np.full((2 * height, 2 * width, 3), 128, np.uint8), self._image)
            self._feed(self._bound or self._instructions.encode(None))
            for _ in range(runs):
                self._session.run()

    def act(self, frame: Frame, instruction: str | None = None) -> Action:
        """One step: the action for a camera frame.

        Args:
            frame: uint8 [height, width, 3] of any size, RGB unless loaded with channels="bgr"; a Pillow image; or
                the path of an image file. Of a bundle with a camera: of its size and order of channels, copied once,
                unless it is this policy's own `frame`.
            instruction: one that the bundle holds; None for its default, and for a policy without text.

        Returns:
            The action, each component in its unit, within the manifest's limits. For a policy trained on first
            frames: the action of the first frame since `reset`, marked as held; later frames must still be
            frames, since a dead camera is to stop the robot.

        Raises:
            ImageError: not an RGB image, or not of the size that the bundle's camera has.
            InstructionError: the bundle does not hold the instruction, or it changed while an action is held.
            NonFiniteActionError: the engine returned NaN or infinity; `reset` before the next call.
            EngineError: the engine failed, or the policy is closed, in use, or refuses after such a fault.
        """
        with self._turn:
            start = time.perf_counter()
            chosen = self._accept(instruction)
            if self._held is not None:
                self._write_image.check(frame, self._image)
                return self._repeat(self._held, chosen, start)
            self._write_image(frame, self._image)
            return self._step(chosen, start, time.perf_counter())

    def act_preprocessed(self, pixel_values: np.ndarray, instruction: str | None = None) -> Action:
        """One step on pixels that are resized and normalised already.

        Args:
            pixel_values: float32 [1, 3, H, W] or [3, H, W], as `Preprocessor` makes them; copied, unless it
                is this policy's own `pixel_values`.
            instruction: as for `act`.

        Raises:
            ImageError: another shape or dtype, a masked array, or NaN or infinity among the values.
            InputError: the bundle takes its camera's frames as they are.
            InstructionError, NonFiniteActionError, EngineError: as for `act`.
        """
        with self._turn:
            start = time.perf_counter()
            self._require_pixels()
            chosen = self._accept(instruction)
            self._check_pixels(pixel_values)
            if self._held is not None:
                _require_finite(pixel_values)
                return self._repeat(self._held, chosen, start)
            if pixel_values is not self._image:
                np.copyto(self._image, pixel_values)
            prepared = time.perf_counter()
            # Looking at every pixel takes as long as half the copy: the engine need not wait for it.
            return self._step(chosen, start, prepared, lambda: _require_finite(pixel_values))

    def reset(self) -> None:
        """Begin an episode: carried state becomes zero, a held action is dropped, a fault is forgiven.

        Raises:
            EngineError: the policy is closed or in use.
        """
        with self._turn:
            for source, _ in self._state:
                source.fill(0)
            self._held = None
            self._refusal = ""

    def _accept(self, instruction: str | None) -> EncodedInstruction:
        if self._refusal:
            raise EngineError(
                f"this policy {self._refusal} and refuses to go on.",
                "Stop the robot, look at what happened, then call reset().",
            )
        return self._instructions.encode(instruction)

    def _require_pixels(self) -> None:
        if (camera := self.manifest.camera) is not None:
            raise InputError(
                f"the bundle {self.manifest.name!r} takes frames of {camera.width} by {camera.height} as they are, and "
                "no prepared pixels.",
                "Give the frame to act(), or write it into `frame`; or export without --camera.",
            )

    def _check_pixels(self, pixel_values: np.ndarray) -> None:
        target = self._image
        if not isinstance(pixel_values, np.ndarray) or pixel_values.dtype != np.float32:
            kind = getattr(pixel_values, "dtype", type(pixel_values).__name__)
            raise ImageError(f"pixel_values are {kind} instead of float32.", "Make them with Preprocessor.")
        if isinstance(pixel_values, np.ma.MaskedArray):  # its mask would be passed over
            raise ImageError(
                "pixel_values are a masked array.",
                "Say what its masked values are: pixel_values.filled(0).",
            )
        if pixel_values.shape not in (target.shape, target.shape[1:]):
            raise ImageError(
                f"pixel_values have shape {list(pixel_values.shape)} instead of {list(target.shape)}.",
                "Make them with Preprocessor, or give the raw frame to act().",
            )

    def _step(
        self, chosen: EncodedInstruction, start: float, prepared: float, check: HostWork = nothing
    ) -> Action:
        self._feed(chosen)
        began = time.perf_counter()
        self._session.run(check)
        ended = time.perf_counter()
        timings_ms = {"preprocess": (prepared - start) * 1e3, "engine": (ended - began) * 1e3, "total": 0.0}
        try:
            action = self._decode(
                self._output, instruction=chosen.text, engine=self._session.identity, timings_ms=timings_ms
            )
            if self._state:
                self._carry_state()
        except NonFiniteActionError:
            self._refusal = "returned an action that was not finite"
            raise
        if self._holds_first:
            self._held = action
        timings_ms["total"] = (time.perf_counter() - start) * 1e3
        return action

    def _feed(self, chosen: EncodedInstruction) -> None:
        """Write the prompt, unless the buffers hold it from the last call."""
        if chosen is self._bound:
            return
        self._bound = None  # an interrupt would leave half a prompt
        self._write_prompt(chosen)
        self._bound = chosen

    def _carry_state(self) -> None:
        for _, target in self._state:
            if not np.isfinite(target).all():
                raise NonFiniteActionError(
                    "the engine returned a state that is not finite.", "Stop the robot, then call reset()."
                )
        self._refusal = "was interrupted while it took over its state"
        for source, target in self._state:
            np.copyto(source, target)
        self._refusal = ""

    def _repeat(self, held: Action, chosen: EncodedInstruction, start: float) -> Action:
        if chosen.text != held.instruction:
            raise InstructionError(
                f"the action held since the first frame follows {held.instruction!r}, not {chosen.text!r}.",
                "This policy decides on an episode's first frame: call reset() before another instruction.",
            )
        total_ms = (time.perf_counter() - start) * 1e3
        timings_ms = {"preprocess": 0.0, "engine": 0.0, "total": total_ms}
        return dataclasses.replace(held, held=True, timings_ms=timings_ms)


def _require_finite(pixel_values: np.ndarray) -> None:
    """Refuse NaN and infinity.

    A sum of squares is finite only without them, and BLAS makes it in one pass without an array of
    booleans. Values so large that their squares overflow are looked at one by one.
    """
    if not (np.isfinite(np.vdot(pixel_values, pixel_values)) or np.isfinite(pixel_values).all()):
        raise ImageError("pixel_values hold NaN or infinity.", "Look at what normalises the frames.")
