"""The main path: a checkpoint goes in, a checked bundle comes out.

`export_bundle` reads top to bottom: recognise, settle, tokenise, look at disk and memory, write the graph
and its weights, run the PyTorch FP32 policy, run the written file, compare, publish.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_edge.export.bundle import demands, gates
from vla_edge.export.bundle import writer as bundle_writer
from vla_edge.export.checkpoint.source_watch import SourceWatch
from vla_edge.export.checkpoint.text_values import numbers_in
from vla_edge.export.families import asking
from vla_edge.export.family import Family, GraphRequest, Prompts, Surroundings
from vla_edge.export.graph.precision import FP16, FP32, Precision
from vla_edge.export.screen.reporter import Reporter, Silent
from vla_edge.export.settings.given import read_given
from vla_edge.export.settings.rules import INSTRUCTIONS, ResolvedSettings
from vla_edge.runtime.bundle import manifest as schema
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.exchange import recover
from vla_edge.runtime.version import VERSION

from . import resources
from .libraries import import_reference
from .options import ExportOptions

if TYPE_CHECKING:
    from vla_edge.export.bundle.samples.frames import GoldenFrames
    from vla_edge.export.bundle.samples.golden import Reference
    from vla_edge.export.checkpoint.checkpoint import Checkpoint
    from vla_edge.export.graph.writer import GraphWriter

PRECISIONS: Mapping[str, Precision] = {"fp16": FP16, "fp32": FP32}


@dataclass(frozen=True)
class Exported:
    """A finished bundle, its errors and where the time went (seconds by stage)."""

    folder: Path
    manifest: schema.Manifest
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Job:
    """What all precisions of one checkpoint share."""

    options: ExportOptions
    checkpoint: Checkpoint
    settings: ResolvedSettings[Any]
    prompts: Prompts | None
    frames: GoldenFrames
    inputs: dict[str, np.ndarray]
    surroundings: Surroundings

    @property
    def family(self) -> Family:
        return self.checkpoint.family


def export_bundle(
    options: ExportOptions,
    reporter: Reporter | None = None,
    finished: Callable[[Exported], None] = lambda result: None,
) -> list[Exported]:
    """Export a checkpoint to one bundle for each precision asked.

    Args:
        options: what to export.
        reporter: is told what happens.
        finished: is called with each bundle as it is published; a later one may still fail.

    Raises:
        CheckpointError, InputError: the checkpoint, a setting or an option cannot be used, or the checkpoint
            was changed meanwhile.
        ResourceError: too little disk or memory.
        GatesMissedError: a gate is missed; that bundle is not kept, those finished before it are.
    """
    from vla_edge.export.checkpoint.checkpoint import read_checkpoint

    reporter = reporter or Silent()
    for repaired in recover(options.output):
        reporter.note(repaired)
    for target in map(options.target, options.precisions):
        bundle_writer.refuse_unusable(target)
        bundle_writer.refuse_existing(target, options.force)
    clock = _Clock()
    with clock("read"):
        checkpoint = read_checkpoint(options.checkpoint, options.weights, options.family)
        settings = _settle(options, checkpoint)
    reporter.note(f"{checkpoint.layout}: {checkpoint.recognised.reasons[-1]}")
    if checkpoint.other_weights:
        others = ", ".join(checkpoint.other_weights)
        reporter.note(f"weights: {checkpoint.state_dict_key}, not {others} (--weights KEY takes others)")
    job = _prepare(options, checkpoint, settings, reporter)
    with checkpoint.file.errors_explained(), ThreadPoolExecutor(max_workers=1) as pool:
        source = SourceWatch(checkpoint, pool)
        with clock("read"):
            # what is cheap to refuse was refused before these seconds
            import_reference(checkpoint.family)
            reference = _reference(checkpoint, settings)
        expected: dict[str, np.ndarray] = {}
        results = []
        for name in options.precisions:
            results.append(_export_one(job, PRECISIONS[name], reference, expected, source, reporter, clock))
            finished(results[-1])
        return results


def _settle(options: ExportOptions, checkpoint: Checkpoint) -> ResolvedSettings[Any]:
    """Every choice of the forward pass, and who made it.

    Raises:
        InputError: a setting cannot be used, or an option about text is given for policies without.
    """
    if not checkpoint.family.takes_text and (
        INSTRUCTIONS in options.settings or not options.about_text.is_empty
    ):
        raise InputError(
            f"the policies of {checkpoint.family.name} take no text.",
            "Leave out --tokenizer, --instruction, --instruction-ids, --keep-vocabulary and --prompt-length.",
        )
    in_file = read_given(options.settings_file).names if options.settings_file else ()
    beside = {name: numbers_in(value) for name, value in checkpoint.extra.items()}
    return checkpoint.family.settings.resolve(
        checkpoint.architecture,
        checkpoint=checkpoint.family.carried(beside, given={*options.settings, *in_file}),
        file=options.settings_file,
        options=options.settings,
    )


def _reference(checkpoint: Checkpoint, settings: ResolvedSettings[Any]) -> Reference:
    from vla_edge.export.bundle.samples.golden import Reference

    family, values = checkpoint.family, settings.values
    policy = family.reference(checkpoint.architecture, values, checkpoint.tensors)
    return Reference(family, policy, values)


def _prepare(
    options: ExportOptions, checkpoint: Checkpoint, settings: ResolvedSettings[Any], reporter: Reporter
) -> _Job:
    """Everything that is quick: tokens and frames."""
    from vla_edge.export.bundle.samples.followed import listed, places, undeclared, unfollowed
    from vla_edge.export.bundle.samples.golden import make_inputs

    family, arch = checkpoint.family, checkpoint.architecture
    prompts = family.prompts(arch, settings.values, options.about_text)
    surroundings = family.surroundings(arch, settings.values)
    frames = _frames(options, settings, prompts, surroundings, reporter)
    if frames.resized and options.camera:
        size = f"{options.camera.width}x{options.camera.height}"
        reporter.note(f"golden frames are resized to the camera's {size} first, such as {frames.resized}")
    if prompts and (new := undeclared(prompts, frames.instructions)):
        declared = [each.text for each in prompts.instructions]
        options = replace(options, settings={**options.settings, INSTRUCTIONS: [*declared, *new]})
        settings = _settle(options, checkpoint)
        prompts = family.prompts(arch, settings.values, options.about_text)
        reporter.note(f"declared, since recorded: {listed(list(map(repr, new)))}")
    if prompts and prompts.doubt and checkpoint.weights_origin == "checkpoint":
        raise InputError(prompts.doubt, "Give the trained policy's with --tokenizer.")
    followed = {}  # given where it is needed alone, so that a family may leave it out
    if prompts and frames.instructions:
        followed["instructions"] = places(prompts, frames.instructions)
        if left := unfollowed(prompts, frames.instructions):
            reporter.note(f"not compared, since no recorded frame has it: {listed(list(map(repr, left)))}")
    with asking(family):
        others = family.golden_inputs(arch, settings.values, prompts, len(frames.names), **followed)
    return _Job(options, checkpoint, settings, prompts, frames, make_inputs(frames, others), surroundings)


def _frames(
    options: ExportOptions,
    settings: ResolvedSettings[Any],
    prompts: Prompts | None,
    surroundings: Surroundings,
    reporter: Reporter,
) -> GoldenFrames:
    from vla_edge.export.bundle.samples.frames import image_frames

    if options.episodes is None:
        return image_frames(options.images, surroundings.preprocessing, options.camera)
    from vla_edge.export.bundle.samples.followed import Instructions
    from vla_edge.export.bundle.samples.recorded import Use, recorded_frames

    runtime = surroundings.runtime
    use = Use(surroundings.preprocessing, runtime.frame == "first", bool(runtime.state), options.camera)
    instructions = Instructions()
    if prompts:
        instructions = Instructions(
            texts=tuple(each.text for each in prompts.instructions),
            default=prompts.default_instruction,
            chosen=settings.origins.get(INSTRUCTIONS, "default") != "default",
            grow=options.keep_vocabulary,
        )
    return recorded_frames(options.episodes, use, instructions, reporter)


def _export_one(
    job: _Job,
    precision: Precision,
    reference: Reference,
    expected: dict[str, np.ndarray],
    source: SourceWatch,
    reporter: Reporter,
    clock: _Clock,
) -> Exported:
    """Write, measure and publish one precision. `expected` is filled by the first and reused."""
    from vla_edge.export.bundle.description import Description, parity_of, stages_of
    from vla_edge.export.bundle.parity import measure_graph
    from vla_edge.export.bundle.samples.golden import save_golden, see_through

    target = job.options.target(precision.name)
    graph = _graph(job, precision, reference)
    pairs = job.surroundings.runtime.state
    largest = max(int(np.prod(weight.value.shape)) * 4 for weight in graph.weights)
    frame = job.options.camera.frame_bytes if job.options.camera else 0
    weights = sum(weight.size_bytes for weight in graph.weights)
    needs = resources.estimate(weights, largest, job.options.batch * frame, len(job.frames.names) * frame)
    for line in resources.check(needs, target, job.options.ignore_memory):
        reporter.note(line)
    stages = stages_of(graph)
    exact = (schema.CAMERA_STAGE,) if job.options.camera else ()
    usual = gates.default_gates(job.family.gates[precision.name], [stage.name for stage in stages], exact)
    asked = gates.override(usual, job.options.gates, job.surroundings.action.unit)
    with bundle_writer.staging(target) as folder:
        with clock("weights"):
            files = _write_files(job, graph, folder, source, reporter)
        count = len(job.inputs["names"])
        if not expected:
            with clock("reference"):
                expected.update(_run_reference(job, reference, graph, source, reporter))
        inputs = see_through(job.inputs, job.frames.frames)
        save_golden(folder / schema.GOLDEN_NAME, inputs, expected)
        with clock("parity"), reporter.stage(f"comparing {precision.name}", count, "images") as advance:
            golden, scale = {**inputs, **expected}, job.surroundings.action.scale
            measured = measure_graph(folder, golden, stages, pairs, scale, lambda: advance(1))
        with clock("publish"):
            files.append(bundle_writer.entry(folder / schema.GOLDEN_NAME))
            parity = parity_of(measured, count, asked, job.frames.origin)
            around, camera = job.surroundings, job.options.camera
            described = Description(
                target.name, job.checkpoint, job.settings, job.prompts, around, precision, graph, camera
            )
            manifest = described.manifest(parity, files, source.sha256())
            gates.require_met(manifest)
            source.check()
            if left := bundle_writer.publish(folder, target, manifest, job.options.force):
                reporter.note(left)
    return Exported(target, manifest, clock.take())


def _run_reference(
    job: _Job, reference: Reference, graph: GraphWriter, source: SourceWatch, reporter: Reporter
) -> dict[str, np.ndarray]:
    """Stages and actions of all samples, from the state that real frames leave where they are recorded."""
    from vla_edge.export.bundle.samples.golden import array_of, run_reference
    from vla_edge.export.bundle.samples.run_in import run_in_states

    before = job.frames.before
    pairs = job.surroundings.runtime.state
    states, carried = demands.state_returned(graph, pairs), demands.state_stages(graph, pairs)
    runs = len(job.frames.names) + sum(map(len, before))
    with reporter.stage("running PyTorch FP32", runs, "images") as advance:
        step = source.checked(advance)
        job.inputs.update(run_in_states(reference, job.inputs, before, states, lambda: step(1)))
        stages = list(graph.stages)
        known = {}
        if job.options.camera:  # what Pillow makes of each frame, the graph has to make as well
            known[array_of(stages.pop(0))] = job.frames.pixels
        return known | run_reference(reference, job.inputs, stages, carried, lambda: step(1))


def _graph(job: _Job, precision: Precision, reference: Reference) -> GraphWriter:
    """The family's graph, which has what is demanded of one, behind the camera that is asked for."""
    from vla_edge.export.bundle.camera import put_camera

    graph = job.family.graph(
        GraphRequest(
            job.checkpoint.architecture,
            job.settings.values,
            job.checkpoint.tensors,
            precision,
            job.options.batch,
            job.prompts,
            reference.policy,
        )
    )
    pairs = job.surroundings.runtime.state
    demands.require_compared(job.family, graph, pairs)
    demands.require_golden(job.family, graph, pairs, job.inputs)
    demands.require_arguments(job.family, graph, pairs, reference.arguments(job.inputs))
    if job.options.camera:
        put_camera(graph, job.family, job.options.camera, job.surroundings.preprocessing)
    demands.require_size(graph)
    return graph


def _write_files(
    job: _Job, graph: GraphWriter, folder: Path, source: SourceWatch, reporter: Reporter
) -> list[schema.FileEntry]:
    """model.onnx, its data, and the tokenizer where new instructions may come."""
    import onnx

    from vla_edge.export.graph.weights import total_bytes, write_weights

    model = graph.model(VERSION, job.options.checkpoint.stem)
    with reporter.stage("writing weights", total_bytes(graph.weights), "bytes") as advance:
        data = write_weights(model, graph.weights, folder / schema.WEIGHTS_NAME, source.checked(advance))
    onnx.save_model(model, folder / schema.MODEL_NAME)
    onnx.checker.check_model(str(folder / schema.MODEL_NAME), full_check=False)
    entries = [
        bundle_writer.entry(folder / schema.MODEL_NAME),
        bundle_writer.entry(folder / schema.WEIGHTS_NAME, data.sha256),
    ]
    if job.prompts and job.prompts.tokenizer_json is not None:
        path = folder / schema.TOKENIZER_NAME
        path.write_text(job.prompts.tokenizer_json, encoding="utf-8")
        entries.append(bundle_writer.entry(path))
    return entries


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Any:
        start = time.perf_counter()
        yield
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """What was measured since the last call."""
        taken, self._seconds = self._seconds, {}
        return taken
