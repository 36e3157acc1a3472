"""The main path: a checkpoint goes in, a checked bundle comes out.

`export_bundle` reads top to bottom: recognise, settle, tokenise, look at disk and memory, write the graph
and its weights, run the PyTorch FP32 policy, run the written file, compare, publish.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from vla_edge.export.bundle import gates
from vla_edge.export.bundle import writer as bundle_writer
from vla_edge.export.bundle.names import bundle_stem
from vla_edge.export.checkpoint.container import printable
from vla_edge.export.checkpoint.source_watch import SourceWatch
from vla_edge.export.checkpoint.text_values import numbers_in
from vla_edge.export.graph.precision import FP16, FP32, Precision
from vla_edge.export.kosmos2.architecture import Architecture
from vla_edge.export.kosmos2.settings import RULES, PolicySettings
from vla_edge.export.kosmos2.tokens import (
    Prompts,
    build_prompts,
    find_tokenizer,
    load_tokenizer,
    needs_tokenizer,
)
from vla_edge.export.settings.rules import ResolvedSettings
from vla_edge.export.settings.text import read_settings_file
from vla_edge.runtime.bundle import manifest as schema
from vla_edge.runtime.errors import CheckpointError
from vla_edge.runtime.files.exchange import recover
from vla_edge.runtime.version import VERSION

from . import resources
from .libraries import import_reference

if TYPE_CHECKING:
    from vla_edge.export.bundle.parity import Measured
    from vla_edge.export.checkpoint.checkpoint import Checkpoint
    from vla_edge.export.graph.writer import GraphWriter
    from vla_edge.export.kosmos2.reference import VlaPolicy

PRECISIONS: Mapping[str, Precision] = {"fp16": FP16, "fp32": FP32}


@dataclass(frozen=True)
class ExportOptions:
    """What `vla-export` was asked for.

    Attributes:
        checkpoint: the file.
        output: folder that receives the bundles.
        precisions: "fp16", "fp32" or both.
        name: of the bundle folder without the precision; see `names`.
        settings: values from the command line; `settings_file` from a file.
        tokenizer: folder or hub id; None looks beside the checkpoint.
        explicit_ids: token ids by instruction.
        keep_vocabulary, prompt_length, batch: see `tokens.build_prompts` and `graph.policy`.
        gates: `STAGE=LIMIT` texts.
        images: folder with frames for golden samples; None takes the packaged ones.
        force: replace existing bundles.
        ignore_memory: do not warn of little memory.
        weights: key of the state dict to take, such as "ema_state_dict"; None takes the usual one.
    """

    checkpoint: Path
    output: Path
    precisions: tuple[str, ...] = ("fp16",)
    name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_file: Path | None = None
    tokenizer: str | None = None
    explicit_ids: Mapping[str, Sequence[int]] = field(default_factory=dict)
    keep_vocabulary: bool = False
    prompt_length: int | None = None
    batch: int = 1
    gates: tuple[str, ...] = ()
    images: Path | None = None
    force: bool = False
    ignore_memory: bool = False
    weights: str | None = None

    def target(self, precision: str) -> Path:
        return self.output / f"{bundle_stem(self.checkpoint, self.name)}-{precision}"


class Reporter(Protocol):
    """Receives what happens; the command shows bars, tests collect, `Silent` ignores."""

    def note(self, text: str) -> None: ...

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]: ...


class Silent:
    """A reporter that shows nothing."""

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Any:
        yield lambda advance: None


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
    settings: ResolvedSettings[PolicySettings]
    prompts: Prompts
    inputs: dict[str, np.ndarray]
    clip_text: np.ndarray | None
    preprocessing: schema.Preprocessing

    @property
    def arch(self) -> Architecture:
        return self.checkpoint.architecture


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
        checkpoint = read_checkpoint(options.checkpoint, options.weights)
        settings = RULES.resolve(
            checkpoint.architecture,
            checkpoint=action_normalisation(checkpoint.extra, given=_given(options)),
            file=options.settings_file,
            options=options.settings,
        )
    reporter.note(f"{checkpoint.architecture.layout}: {checkpoint.layout_reasons[-1]}")
    if checkpoint.other_weights:
        others = ", ".join(checkpoint.other_weights)
        reporter.note(f"weights: {checkpoint.state_dict_key}, not {others} (--weights KEY takes others)")
    job = _prepare(options, checkpoint, settings)
    with checkpoint.file.errors_explained(), ThreadPoolExecutor(max_workers=1) as pool:
        source = SourceWatch(checkpoint, pool)
        with clock("read"):
            # what is cheap to refuse was refused before these seconds
            import_reference()
            from vla_edge.export.kosmos2.reference import build_policy

            policy = build_policy(checkpoint, settings.values)
        if "clip_text" in settings.values.features:
            job = dataclasses.replace(job, clip_text=policy.clip_text(policy.clip_ids).detach().numpy())
        reference: dict[str, np.ndarray] = {}
        results = []
        for name in options.precisions:
            results.append(_export_one(job, PRECISIONS[name], policy, reference, source, reporter, clock))
            finished(results[-1])
        return results


def _given(options: ExportOptions) -> set[str]:
    """Names of the settings that the user gives."""
    return {*options.settings, *(read_settings_file(options.settings_file) if options.settings_file else ())}


def action_normalisation(extra: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """`action_mean` and `action_std`, where a checkpoint carries them, as offset and scale.

    Args:
        extra: what the checkpoint holds beside the weights.
        given: names of the settings that the user gives; what they replace is not looked at.

    Raises:
        CheckpointError: one of them is no array of finite numbers, a standard deviation is not above 0, or
            they are of different lengths.
    """
    found = {}
    for key, setting in (("action_std", "action_scale"), ("action_mean", "action_offset")):
        if extra.get(key) is not None and setting not in given:
            found[setting] = _finite_numbers(key, numbers_in(extra[key]))
    scale, offset = found.get("action_scale"), found.get("action_offset")
    if scale is not None and min(scale) <= 0:
        raise CheckpointError(
            f"the checkpoint's action_std is {_shown(scale)}; a standard deviation is above 0.",
            "With 0 the robot would not move, and every error would pass. Give the m/s that an output of 1 "
            "stands for: --set action_scale=[2.0,2.0]",
        )
    if scale is not None and offset is not None and len(scale) != len(offset):
        raise CheckpointError(
            f"the checkpoint's action_std has {len(scale)} values, its action_mean {len(offset)}.",
            "Give both: --set action_scale=[2.0,2.0] --set action_offset=[0.0,0.0]",
        )
    return found


def _finite_numbers(key: str, value: Any) -> list[float]:
    try:
        array = np.asarray(value)
        numbers = array.astype(np.float64).reshape(-1) if array.dtype.kind in "iuf" else np.zeros(0)
    except (ValueError, OverflowError, RecursionError):  # lists of differing lengths, nested without end
        numbers = np.zeros(0)
    if not numbers.size or not np.isfinite(numbers).all():
        raise CheckpointError(
            f"the checkpoint's {key} is {_shown(value)}, which are no finite numbers.",
            "Save it as a list or tensor of one number for each component of the action.",
        )
    return [float(number) for number in numbers]


def _shown(value: Any) -> str:
    return printable(str(value))[:100]


def _prepare(
    options: ExportOptions, checkpoint: Checkpoint, settings: ResolvedSettings[PolicySettings]
) -> _Job:
    """Everything that is quick: tokens and frames."""
    from vla_edge.export.bundle.frames import golden_frames, preprocess
    from vla_edge.export.bundle.golden import make_inputs

    arch, values = checkpoint.architecture, settings.values
    prompts = build_prompts(
        arch,
        values,
        tokenizer=_tokenizer(options, values.instructions),
        explicit_ids=options.explicit_ids,
        keep_vocabulary=options.keep_vocabulary,
        length=options.prompt_length,
    )
    side = arch.vision.image_size
    preprocessing = schema.Preprocessing(
        height=side,
        width=side,
        color="rgb",
        fit="squash",
        resample=values.image_resample,
        antialias=True,
        scale=1 / 255,
        mean=values.image_mean,
        std=values.image_std,
    )
    frames = golden_frames(options.images)
    pixels = preprocess(frames, preprocessing)
    inputs = make_inputs(frames, pixels, prompts.instructions, prompts.prompt, values, arch)
    return _Job(options, checkpoint, settings, prompts, inputs, None, preprocessing)


def _tokenizer(options: ExportOptions, instructions: Sequence[str]) -> Any | None:
    """The tokenizer, unless explicit ids make it needless."""
    if (
        options.tokenizer is None
        and not needs_tokenizer(instructions, options.explicit_ids)
        and not options.keep_vocabulary
    ):
        return None
    return load_tokenizer(options.tokenizer or find_tokenizer(options.checkpoint))


def _export_one(
    job: _Job,
    precision: Precision,
    policy: VlaPolicy,
    reference: dict[str, np.ndarray],
    source: SourceWatch,
    reporter: Reporter,
    clock: _Clock,
) -> Exported:
    """Write, measure and publish one precision. `reference` is filled by the first and reused."""
    from vla_edge.export.bundle.golden import run_reference, save_golden
    from vla_edge.export.bundle.parity import measure_graph

    target = job.options.target(precision.name)
    graph = _write_graph(job, precision)
    largest = max(int(np.prod(weight.value.shape)) * 4 for weight in graph.weights)
    needs = resources.estimate(sum(weight.size_bytes for weight in graph.weights), largest)
    for line in resources.check(needs, target, job.options.ignore_memory):
        reporter.note(line)
    stages = stages_of(graph)
    asked = gates.override(
        gates.default_gates(precision.name, [stage.name for stage in stages]), job.options.gates
    )
    with bundle_writer.staging(target) as folder:
        with clock("weights"):
            files = _write_files(job, graph, folder, source, reporter)
        count = len(job.inputs["names"])
        if not reference:
            with clock("reference"), reporter.stage("running PyTorch FP32", count, "images") as advance:
                step = source.checked(advance)
                reference.update(run_reference(policy, job.inputs, lambda: step(1)))
        save_golden(folder / schema.GOLDEN_NAME, job.inputs, reference)
        with clock("parity"), reporter.stage(f"comparing {precision.name}", count, "images") as advance:
            golden, scale = {**job.inputs, **reference}, job.settings.values.action_scale
            measured = measure_graph(folder, golden, stages, scale, lambda: advance(1))
        with clock("publish"):
            files.append(bundle_writer.entry(folder / schema.GOLDEN_NAME))
            parity = _parity(measured, count, asked)
            manifest = _manifest(job, precision, graph, stages, parity, files, source.sha256())
            _check_gates(manifest, target)
            source.check()
            if left := bundle_writer.publish(folder, target, manifest, job.options.force):
                reporter.note(left)
    return Exported(target, manifest, clock.take())


def _write_graph(job: _Job, precision: Precision) -> GraphWriter:
    from vla_edge.export.kosmos2.graph.decoder import PromptShape
    from vla_edge.export.kosmos2.graph.policy import GraphOptions, write_policy

    prompt = PromptShape(job.prompts.prompt.length, job.prompts.prompt.image_start, job.prompts.kept_ids)
    options = GraphOptions(precision, prompt, job.options.batch, job.clip_text)
    return write_policy(job.arch, job.settings.values, job.checkpoint.tensors, options)


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
    if job.prompts.tokenizer_json is not None:
        path = folder / schema.TOKENIZER_NAME
        path.write_text(job.prompts.tokenizer_json, encoding="utf-8")
        entries.append(bundle_writer.entry(path))
    return entries


def stages_of(graph: GraphWriter) -> tuple[schema.Stage, ...]:
    """The named intermediate values, in the order of the forward pass."""
    return tuple(
        schema.Stage(name=name, tensor=graph.stages[name].name, shape=graph.stages[name].shape)
        for name in gates.STAGES
        if name in graph.stages
    )


def _check_gates(manifest: schema.Manifest, target: Path) -> None:
    missed = gates.missed(manifest.parity, manifest.action.unit)
    if missed:
        raise gates.GatesMissedError(
            f"{target.name} differs too much from the PyTorch FP32 policy: {'; '.join(missed)}.",
            "This bundle was not kept. Export with --fp32 to tell precision from structure, "
            "or set another limit with --gate.",
            manifest,
        )


def _manifest(
    job: _Job,
    precision: Precision,
    graph: GraphWriter,
    stages: tuple[schema.Stage, ...],
    parity: schema.Parity,
    files: Sequence[schema.FileEntry],
    source_sha256: str,
) -> schema.Manifest:
    values = job.settings.values
    state = (("h_in", "h_out"), ("c_in", "c_out")) if values.lstm == "carried" else ()
    return schema.Manifest(
        schema_version=schema.SCHEMA_VERSION,
        name=job.options.target(precision.name).name,
        created_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        source=_source(job.checkpoint, source_sha256),
        architecture=schema.Architecture(
            family="kosmos2", values=msgspec.json.decode(msgspec.json.encode(job.arch))
        ),
        settings=job.settings.for_manifest(),
        inputs=tuple(_input(value) for value in graph.inputs),
        outputs=tuple(_output(value) for value in graph.outputs),
        stages=stages,
        cuts=(),
        preprocessing=job.preprocessing,
        prompt=job.prompts.prompt,
        instructions=job.prompts.instructions,
        default_instruction=values.default_instruction,
        runtime=schema.Runtime(frame=values.frame, state=state),
        action=schema.ActionSpec(
            names=values.action_names,
            units=("m/s",) * len(values.action_names),
            scale=values.action_scale,
            offset=values.action_offset,
            limit=values.action_limit,
        ),
        precision=schema.Precision(
            asked=precision.name,
            achieved=precision.name,
            weights_dtype=precision.matmul,
            float32_islands=precision.islands,
        ),
        parity=parity,
        tools=_tools(),
        files=tuple(files),
    )


def _parity(measured: Measured, samples: int, asked: tuple[schema.Gate, ...]) -> schema.Parity:
    return schema.Parity(
        reference="PyTorch FP32 policy",
        engine=measured.engine,
        samples=samples,
        gates=asked,
        errors=measured.errors,
        max_abs=measured.max_abs,
    )


def _source(checkpoint: Checkpoint, sha256: str) -> schema.Source:
    return schema.Source(
        file=checkpoint.path.name,
        size_bytes=checkpoint.size_bytes,
        sha256=sha256,
        epoch=checkpoint.epoch,
        val_mae=checkpoint.val_mae,
        layout=checkpoint.architecture.layout,
        layout_reasons=checkpoint.layout_reasons,
        parameters=sum(math.prod(tensor.shape) for tensor in checkpoint.tensors.values()),
        weights_origin=checkpoint.weights_origin,
        weights_key=checkpoint.state_dict_key,
        other_weights=checkpoint.other_weights,
    )


_ROLES: dict[str, schema.InputRole] = {
    "pixel_values": "pixels",
    "input_ids": "token_ids",
    "attention_mask": "attention_mask",
    "instruction_index": "instruction_index",
}


def _input(value: Any) -> schema.Input:
    role = _ROLES.get(value.name, "state")
    return schema.Input(name=value.name, dtype=value.dtype, shape=value.shape, role=role)


def _output(value: Any) -> schema.Output:
    role: schema.OutputRole = "actions" if value.name == "actions" else "state"
    return schema.Output(name=value.name, dtype=value.dtype, shape=value.shape, role=role)


def _tools() -> dict[str, str]:
    from importlib.metadata import version

    tools = {name: version(name) for name in ("torch", "transformers", "onnx", "numpy", "pillow")}
    return {"vla-edge": VERSION, "python": platform.python_version(), **tools}


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
