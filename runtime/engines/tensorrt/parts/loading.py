"""A plan's files, each checked while the engine of the one before is deserialised."""

from __future__ import annotations

import mmap
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, open_part
from vla_edge.runtime.engines.tensorrt.record import WHOLE, PartRecord

from .chain import Chain, ChainPart, make_chain

_Opened = tuple[ExitStack, mmap.mmap]  # what closes the file, and the file


def chain_of(plan: PlanFile, manifest: Manifest) -> Chain:
    """The parts of a plan with their tensors, checked against each other and the manifest; no file is opened.

    Raises:
        EngineError: they do not make the manifest's outputs from its inputs.
    """
    parts = [
        # a plan that is not cut leaves its tensors to the manifest
        ChainPart(part.name, manifest.inputs, manifest.outputs)
        if part.name == WHOLE and not part.inputs and not part.outputs
        else ChainPart(part.name, part.inputs, part.outputs, part.stream)
        for part in plan.record.parts
    ]
    return make_chain(parts, manifest.inputs, manifest.outputs, origin=str(plan.path), hint=plan.hint)


def checked_images(plan: PlanFile) -> Generator[mmap.mmap, None, None]:
    """Each part's file in turn, mapped and checked by `open_part`; open until the next one is asked for.

    The file after it is checked meanwhile, in another thread. Close the iterator in any case.

    Raises:
        EngineError: as `open_part`, when the file's turn has come.
    """
    parts = plan.record.parts
    if len(parts) == 1:
        with open_part(plan, parts[0]) as image:
            yield image
        return
    with ExitStack() as held, ThreadPoolExecutor(1, thread_name_prefix="vla-read") as ahead:

        def begin(part: PartRecord) -> Future[_Opened]:
            future = ahead.submit(_open, plan, part)
            held.callback(_close, future)  # once the thread has ended
            return future

        coming = begin(parts[0])
        for following in (*parts[1:], None):
            opened, image = coming.result()
            if following is not None:
                coming = begin(following)
            yield image
            opened.close()


def _open(plan: PlanFile, part: PartRecord) -> _Opened:
    with ExitStack() as opened:
        image = opened.enter_context(open_part(plan, part))
        return opened.pop_all(), image


def _close(future: Future[_Opened]) -> None:
    if future.exception() is None:
        future.result()[0].close()
