"""From model.onnx to the bytes of a plan, by TensorRT's parser and builder."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_edge.runtime.engines.tensorrt.library import LIBRARIES, Library
from vla_edge.runtime.engines.tensorrt.plan_names import dotted
from vla_edge.runtime.engines.tensorrt.record import Contents
from vla_edge.runtime.errors import EngineError, InputError

from .contents import network_contents, plan_contents
from .options import BuildOptions
from .progress import BuildProgress, make_monitor, run_interruptibly
from .target import Target
from .timing_cache import TimingCache

_MIB = 1 << 20
_KEPT_MESSAGES = 5


@dataclass(frozen=True)
class Built:
    """`plan` is TensorRT's `IHostMemory`, which has the buffer protocol."""

    plan: Any
    contents: Contents


def build_engine(
    model: Path,
    target: Target,
    options: BuildOptions,
    cache: TimingCache,
    progress: BuildProgress,
    taps: Sequence[str] = (),
) -> Built:
    """Parse and build.

    Args:
        model: `model.onnx`, its data file beside it.
        target: what for.
        options: of the builder.
        cache: measured kernel times.
        progress: is told of the builder's phases.
        taps: names of intermediate tensors to return as further outputs; for finding faults, as it keeps
            TensorRT from fusing across them.

    Raises:
        EngineError: the parser or the builder refuses; with node names and TensorRT's words.
        KeyboardInterrupt: Ctrl-C.
    """
    trt = target.library.trt
    if target.device is not None:
        target.device.activate()
    with tensorrt_errors() as errors:
        builder = trt.Builder(target.library.logger)
        network = builder.create_network(_network_flags(trt))
        # The parser owns the weights that the network refers to: it must live until the plan is built.
        parser = parse(target.library, network, model)
        mark_outputs(network, taps)
        config = _configure(builder, target, options)
        cache.attach(config)
        monitor = make_monitor(trt, progress)
        config.progress_monitor = monitor
        plan = run_interruptibly(lambda: _serialize(builder, network, config, target), monitor)
        del parser
        if plan is None:
            raise _not_built(model, target, errors)
    return Built(plan, plan_contents(target.library.backend, plan) or network_contents(network))


def _not_built(model: Path, target: Target, errors: Sequence[str]) -> EngineError:
    why = "; ".join(errors) or "it gave no reason"
    here = target.device is not None
    elsewhere = "" if here else f" for SM {dotted(target.machine.sm)}"
    return EngineError(
        f"{_named(target.library)} could not build {model}{elsewhere}: {why.rstrip('.')}.",
        "Free device and host memory if it ran out; else try another --level, or report the model."
        if here
        else "That GPU may lack what the model needs: leave it out, or try --backend tensorrt on it.",
    )


def _named(library: Library) -> str:
    return f"{LIBRARIES[library.backend].label} {library.version}"


@contextmanager
def _utf8_name(path: Path) -> Iterator[str]:
    """TensorRT takes and logs names in UTF-8 alone; a folder of another name is reached as one that is open."""
    try:
        os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            yield f"/proc/self/fd/{folder}/{path.name}"
        finally:
            os.close(folder)
    else:
        yield str(path)


def parse(library: Library, network: Any, model: Path) -> Any:
    """Parse an ONNX file into a network.

    Returns:
        The parser, to be kept until the plan is built.

    Raises:
        EngineError: with each problem's node, operator and place.
    """
    parser = library.trt.OnnxParser(network, library.logger)
    with _utf8_name(model) as name:
        parsed = parser.parse_from_file(name)
    if not parsed:
        problems = "; ".join(_parse_error(parser.get_error(at)) for at in range(parser.num_errors))
        raise EngineError(
            f"{_named(library)} cannot read {model}: {problems or 'it gave no reason'}.",
            "Export the checkpoint again with this version of vla-edge, or update TensorRT.",
        )
    return parser


def mark_outputs(network: Any, taps: Sequence[str]) -> None:
    """Return intermediate tensors as outputs of the network.

    Raises:
        InputError: the network has no such tensor.
    """
    missing = set(taps) - {network.get_output(at).name for at in range(network.num_outputs)}
    for layer in (network.get_layer(at) for at in range(network.num_layers)):
        for tensor in (layer.get_output(at) for at in range(layer.num_outputs)):
            if tensor is not None and tensor.name in missing:
                network.mark_output(tensor)
                missing.discard(tensor.name)
    if missing:
        raise InputError(f"The network has no tensor {', '.join(sorted(missing))}.", "Choose another one.")


def network_tensors(target: Target, model: Path) -> set[str]:
    """Names of the tensors in the network that TensorRT's parser makes of a file.

    Raises:
        EngineError: the parser refuses it.
    """
    builder = target.library.trt.Builder(target.library.logger)
    network = builder.create_network(_network_flags(target.library.trt))
    parser = parse(target.library, network, model)
    layers = [network.get_layer(at) for at in range(network.num_layers)]
    tensors = [layer.get_output(at) for layer in layers for at in range(layer.num_outputs)]
    names = {tensor.name for tensor in tensors if tensor is not None}
    del parser
    return names


@contextmanager
def tensorrt_errors() -> Iterator[deque[str]]:
    """The last errors that TensorRT logs meanwhile, each once.

    An `EngineError` that is raised meanwhile tells them; else they go on to the log, at the block's end.

    Not an error recorder: on a builder whose network was parsed from ONNX, TensorRT-RTX 1.7 crashes when
    the network is freed.
    """
    kept: deque[str] = deque(maxlen=_KEPT_MESSAGES)
    held: deque[logging.LogRecord] = deque(maxlen=_KEPT_MESSAGES)

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        if (text := record.getMessage().strip()) not in kept:
            kept.append(text)
            held.append(record)
        return False

    logger = logging.getLogger("vla_edge.tensorrt")
    logger.addFilter(keep)
    try:
        yield kept
    except EngineError:
        held.clear()
        raise
    finally:
        logger.removeFilter(keep)
        for record in held:
            logger.handle(record)


def _network_flags(trt: Any) -> int:
    """Strongly typed: the dtypes in the graph are obeyed. TensorRT 11 knows nothing else and may drop the flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _configure(builder: Any, target: Target, options: BuildOptions) -> Any:
    trt = target.library.trt
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    # Detail in the inspector: dtypes and formats of the layers, which the side file records.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.aux_streams is not None:
        config.max_aux_streams = options.aux_streams
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
    if hasattr(config, "set_compute_capability"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{target.machine.sm}"), 0)
    return config


def _serialize(builder: Any, network: Any, config: Any, target: Target) -> Any:
    """Runs in a thread of its own, where the GPU must be made current again."""
    if target.device is not None:
        target.device.activate()
    return builder.build_serialized_network(network, config)


def _parse_error(error: Any) -> str:
    node = (
        f"node {error.node_name() or error.node()} ({error.node_operator()}): " if error.node() >= 0 else ""
    )
    return f"{node}{error.desc()} [{error.file()}:{error.line()}]"
