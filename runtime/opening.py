"""What `Policy` and `BatchPolicy` share: a bundle checked, opened in an engine, and closed, for one thread."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import numpy as np

from vla_edge.runtime.bundle.bundle import Bundle, Verification, require_known
from vla_edge.runtime.bundle.graph_check import check_graph
from vla_edge.runtime.bundle.manifest import Channels, Manifest
from vla_edge.runtime.engines.choice import open_session, unread_files
from vla_edge.runtime.engines.session import EngineIdentity, Session
from vla_edge.runtime.process.exclusive_use import ExclusiveUse

from .action import ActionDecoder
from .camera_frame import FrameWriter, check_order
from .errors import EngineError
from .instructions import EncodedInstruction, instructions_of
from .preprocess import Preprocessor

_log = logging.getLogger(__name__)
_Opened = TypeVar("_Opened", bound="OpenedPolicy")


class OpenedPolicy:
    """A bundle in an engine, and its buffers by what they are for.

    Args:
        bundle: an opened bundle.
        session: that bundle in an engine; the policy closes it.
        channels: see `load`.

    Raises:
        BundleError: the manifest describes a graph that this class cannot feed.
        InputError: another batch than this class takes, or unknown channels or others than the bundle's camera has.
    """

    _takes: ClassVar[int | None]  # frames at a time; None is as many as the graph does

    def __init__(self, bundle: Bundle, session: Session, channels: Channels | None = None) -> None:
        manifest = bundle.manifest
        image = check_graph(manifest, self._takes)
        self._bundle = bundle
        self._session = session
        self._channels = check_order(channels, manifest.camera)
        self._write_image = (
            FrameWriter(manifest.camera)
            if manifest.camera
            else Preprocessor(manifest.preprocessing, self._channels)
        )
        self._instructions = instructions_of(bundle)
        self._decode = ActionDecoder(manifest.action)
        self._image = session.inputs[image.name]
        self._actions = session.outputs[manifest.actions.name]
        state = manifest.runtime.state
        self._state = [(session.inputs[source], session.outputs[target]) for source, target in state]
        self._prompt = [
            (session.inputs[tensor.name], tensor.role)
            for tensor in manifest.inputs
            if tensor.role not in ("pixels", "frame", "state")
        ]
        self._turn = ExclusiveUse(
            busy=(
                "this policy is in use by another thread.",
                "Give each thread its own policy, or take turns with a lock.",
            ),
            closed=("this policy is closed.", f"Load it again with {type(self).__name__}.load."),
        )

    @classmethod
    def load(
        cls: type[_Opened],
        folder: str | os.PathLike[str],
        backend: str = "auto",
        verify: Verification = "full",
        *,
        channels: Channels | None = None,
        **options: Any,
    ) -> _Opened:
        """Open a bundle, check it, and load it into an engine.

        Args:
            folder: the bundle.
            backend: see `open_session`.
            verify: "full" hashes every file that this engine reads, before it is read (a plan by its own
                side file, which is checked always); "size" compares sizes only.
            channels: the order of colours in the arrays that `act` will get: "bgr" for OpenCV's (`cv2.imread`,
                `VideoCapture.read`), which as "rgb" give another action without an error. None is what the bundle's
                camera has, and without one "rgb". Files and Pillow images say themselves which channel is which.
            **options: of the engine, such as `threads=4` for ONNX Runtime.

        Raises:
            BundleError: the bundle is missing, incomplete, damaged, or not one for this class.
            EngineError: the engine is missing or cannot run it.
            InputError: an unknown option or order of channels, another order than that of the bundle's camera, or a
                bundle of another batch than 1 for `Policy`.
        """
        bundle, session = _open_checked(folder, backend, verify, options, cls._takes, channels)
        try:
            return cls(bundle, session, channels)
        except BaseException:
            session.close()
            raise

    @property
    def identity(self) -> EngineIdentity:
        """The engine that runs."""
        return self._session.identity

    @property
    def manifest(self) -> Manifest:
        return self._bundle.manifest

    @property
    def channels(self) -> Channels:
        """The order of colours in arrays, as `act` takes them."""
        return self._channels

    def in_order(self, array: np.ndarray, channels: Channels = "rgb") -> np.ndarray:
        """An array uint8 [height, width, 3] of known channels as `act` takes it: itself, or a view of it."""
        return array if channels == self._channels else array[:, :, ::-1]

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

    def __enter__(self: _Opened) -> _Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except EngineError as busy:
            if error is None:
                raise
            # its engine hangs in another thread: what ends the block, such as Ctrl-C, is what is told
            _log.warning("left to the end of the process: %s", busy.problem)

    def _write_prompt(self, chosen: EncodedInstruction) -> None:
        """Into every row of the batch."""
        for buffer, role in self._prompt:
            buffer[:] = chosen.fed[role]


def _open_checked(
    folder: str | os.PathLike[str],
    backend: str,
    verify: Verification,
    options: Mapping[str, Any],
    batch: int | None,
    channels: Channels | None,
) -> tuple[Bundle, Session]:
    require_known(verify)
    check_order(channels, None)
    bundle = Bundle.open(folder, "size")
    check_graph(bundle.manifest, batch)
    check_order(channels, bundle.manifest.camera)
    if verify == "full":
        bundle.check_hashes(unread=unread_files(bundle, backend))
    return bundle, open_session(bundle, backend, **options)
