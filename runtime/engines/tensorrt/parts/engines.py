"""The loaded engines of a chain, one for each part, and what a session asks all of them."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vla_edge.runtime.engines.tensorrt.engine import Engine, check_tensors, told_by
from vla_edge.runtime.engines.tensorrt.library import Library

from .chain import Chain
from .contexts import EngineContexts
from .shared import EngineLease


class PartEngines:
    """The engines of a chain in the order of its parts, some of which other sessions may use as well.

    Attributes:
        library: the TensorRT that runs them.
        chain: the parts.
        contexts: of each part that is loaded, what makes its contexts.
    """

    def __init__(self, library: Library, chain: Chain) -> None:
        """Nothing is loaded yet: `load` is called once for each part, in their order."""
        self.library = library
        self.chain = chain
        self.contexts: list[EngineContexts] = []
        # Of this session's contexts alone; what an engine reports while it is loaded, its own recorder has.
        self._recorder: Any = library.error_recorder()
        self._owned = ExitStack()

    def load(
        self, image: Any, *, origin: str, hint: str, key: Hashable = None, cache: Path | None = None
    ) -> None:
        """Deserialise the next part's engine, or take the one that is there, and compare its tensors.

        Args:
            image: the plan, checked, as anything with the buffer protocol; it may be closed afterwards.
            origin: where it came from, for messages.
            hint: what to do where TensorRT refuses it.
            key: from `engine_key`, for an engine that other sessions may use; else it is this one's alone.
            cache: where TensorRT-RTX keeps the kernels that it compiles.

        Raises:
            EngineError: TensorRT refuses it or has no memory for it, or its tensors are not the part's.
        """
        lease = EngineLease(key)
        self._owned.callback(lease.close)
        engine = lease.take(lambda: Engine(self.library, image, origin, hint))
        part = self.chain.parts[len(self.contexts)]
        alone = len(self.chain.parts) == 1
        check_tensors(
            engine.engine,
            part.inputs,
            part.outputs,
            who="The engine" if alone else f"The engine of part {part.name}",
            said_by="the manifest" if alone else "its side file",
        )
        self.adopt(engine, cache)

    def adopt(self, engine: Engine, cache: Path | None = None) -> None:
        """Take a loaded engine for the next part, of the part's tensors; it stays the caller's."""
        contexts = EngineContexts(engine, self._recorder, cache)
        self._owned.callback(contexts.close)
        self.contexts.append(contexts)

    def reported(self) -> str:
        """What TensorRT told this session's contexts, else its engines, since this was last asked."""
        told = [told_by(self._recorder), *(told_by(each.engine.recorder) for each in self.contexts)]
        return next(filter(None, told), "it gave no reason")

    def weights_bytes(self) -> int | None:
        """Device memory of all weights; None where this TensorRT does not tell."""
        told = [each.engine.device_memory().get("weights") for each in self.contexts]
        return None if None in told else sum(filter(None, told))

    def save_caches(self) -> None:
        """Keep the kernels that TensorRT-RTX compiled for this GPU beside the plans."""
        for contexts in self.contexts:
            contexts.save_cache()

    def close(self) -> None:
        """Give up every engine, the last first; the contexts must be gone. Calling it again does nothing."""
        self.contexts = []
        self._owned.close()
