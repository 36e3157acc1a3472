"""The user's own frames through a backend, and how far its actions are from PyTorch FP32's on the same frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from vla_edge.bench.report.types import BASELINE, LONGEST_WORDS, Agreement
from vla_edge.runtime.bundle.bundle import Bundle, sample_inputs
from vla_edge.runtime.bundle.graph_check import check_graph
from vla_edge.runtime.bundle.manifest import PIXELS, ActionSpec
from vla_edge.runtime.engines.session import Session
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.images.order import images_in

MAX_FRAMES = 1000

Actions = list[list[list[float]]]


def find_frames(folder: Path) -> tuple[Path, ...]:
    """The images of a folder in natural order (frame2 before frame10): that of a recorded sequence.

    Raises:
        InputError: no such folder, no image in it, or more than a bench should take.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} with images.", "Check the path given with --images.")
    found = images_in(folder)
    if len(found) > MAX_FRAMES:
        raise InputError(
            f"{folder} has {len(found)} images; at most {MAX_FRAMES} are compared.", "Choose a sequence."
        )
    return tuple(found)


def run_frames(
    session: Session,
    bundle: Bundle,
    golden: Mapping[str, np.ndarray],
    state: Collection[str],
    frames: Sequence[Path],
) -> Actions:
    """One step for each frame in turn, with the instruction of the first golden sample.

    State is zero before the first frame and carried from then on, where the bundle carries any.

    Args:
        session: of the bundle, batch 1.
        bundle: says how frames are prepared, and which output becomes which input.
        golden: its samples, as this session takes them.
        state: names of inputs that carry state.
        frames: image files.

    Returns:
        The graph's `actions` of each frame: [frames][steps][components].

    Raises:
        ImageError: a file is no RGB image, or not of the size of the bundle's camera.
    """
    # Pillow is no part of a PyTorch row's start
    from vla_edge.runtime.camera_frame import FrameWriter
    from vla_edge.runtime.preprocess import Preprocessor

    shapes = {name: taken.shape for name, taken in session.inputs.items()}
    for name, value in sample_inputs(golden, 0, shapes, state).items():
        np.copyto(session.inputs[name], value)
    for name in state:
        session.inputs[name].fill(0)
    manifest = bundle.manifest
    image = check_graph(manifest).name
    write: Preprocessor | FrameWriter = Preprocessor(manifest.preprocessing)
    if manifest.camera is not None and image not in session.inputs:  # PyTorch
        image = PIXELS
    elif manifest.camera is not None:
        write = FrameWriter(manifest.camera)
    buffer = session.inputs[image]
    output = session.outputs[manifest.actions.name]
    actions: Actions = []
    for path in frames:
        write(path, buffer)
        session.run()
        actions.append(output[0].tolist())
        for source, target in manifest.runtime.state:
            np.copyto(session.inputs[source], session.outputs[target])
    return actions


def agreement_of(actions: Actions, reference: Actions, spec: ActionSpec) -> Agreement:
    """Compare two backends' actions, frame by frame.

    Args:
        actions, reference: as `run_frames` returns them, of the same frames.
        spec: how the graph's output becomes a command, and in what units.

    Raises:
        InputError: the actions are not finite, so that no difference can be given.
    """
    differences = np.abs(np.asarray(actions, np.float64) - np.asarray(reference, np.float64))
    errors = (differences * np.asarray(spec.scale, np.float64)).max(axis=(1, 2))
    if not np.isfinite(errors).all():
        at = int(np.flatnonzero(~np.isfinite(errors))[0])
        raise InputError(f"frame {at} gave an action that is not finite.", "Look at what it shows.")
    return Agreement(
        frames=len(errors),
        reference=BASELINE,
        unit=spec.unit[:LONGEST_WORDS],
        max_abs=float(errors.max()),
        mean_abs=float(errors.mean()),
        errors=tuple(errors.tolist()),
    )


FrameRunner = Callable[[Sequence[Path]], Actions]
