"""The main path: a checkpoint and episodes go in, what they tell of its settings comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vla_edge.export.checkpoint.checkpoint import Checkpoint, read_checkpoint
from vla_edge.export.checkpoint.text_values import numbers_in
from vla_edge.export.family_search import Search, TextRequest, Validated
from vla_edge.export.libraries import gpu_memory_explained, import_reference
from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.errors import CheckpointError

from .combinations import combinations
from .drive import Agreement, agreement
from .features.device import Device, chosen_device, peak_mib
from .features.features import Features, Forecast
from .fifth import judged_by_fifths
from .protocol import protocols
from .recordings import Recordings, prepared
from .scan import Evaluator, Scores
from .verdict import EXPLAINED, TOLERANCE, Verdict, judged

if TYPE_CHECKING:
    from .protocol import Protocol as ErrorProtocol

WORTH_TELLING_S = 10
GPU_IS_FULL = "End what else runs on it, or give --device cpu; what was done is kept."


@dataclass(frozen=True)
class SearchOptions:
    """What `vla-settings` was asked for; see its `--help`."""

    checkpoint: Path
    cache: Path
    tried: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    first_only: bool = False
    forecast_only: bool = False
    val_mae: float | None = None
    batch_size: int | None = None
    validated: Validated | None = None
    tolerance: float = TOLERANCE
    device: Device = "auto"
    tf32: bool = True
    tokenizer: str | None = None
    weights: str | None = None
    family: str | None = None


class Reporter(Protocol):
    """Receives what happens."""

    def note(self, text: str) -> None: ...

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]: ...


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        checkpoint: whose settings were searched, and its hash.
        sha256: of its file.
        val_mae, batch_size, validated: what was to be met, and how it was taken.
        base: the settings that an export would take by itself.
        space: all that were tried.
        protocols: ways to take the error.
        recordings: the episodes.
        verdict: what the errors tell.
        agreement: what all fits have in common, and how differently they drive.
        device: of torch.
        device_mib: the most of a GPU's memory that torch held; None of a CPU.
        seconds: by part of the work.
    """

    checkpoint: Checkpoint
    sha256: str
    val_mae: float
    batch_size: int
    validated: Validated
    base: Any
    space: tuple[Any, ...]
    protocols: tuple[ErrorProtocol, ...]
    recordings: Recordings
    verdict: Verdict
    agreement: Agreement
    device: str
    device_mib: float | None
    seconds: Mapping[str, float]

    @property
    def is_by_chance(self) -> bool:
        """Whether what fits may well do so by chance; of a fifth that is always so, and its shares tell more."""
        return (
            self.validated == "all" and self.verdict.kind == "several" and self.verdict.by_chance >= EXPLAINED
        )


def find_settings(options: SearchOptions, episodes: Iterable[Episode], reporter: Reporter) -> Outcome | None:
    """Try every combination of settings on recorded episodes.

    Args:
        options: what to search.
        episodes: what the checkpoint was validated on, all of it.
        reporter: is told what happens.

    Returns:
        What was found; None where only a forecast was asked for, which the reporter was told.

    Raises:
        CheckpointError, InputError: the checkpoint, an episode or an option cannot be used.
    """
    checkpoint = read_checkpoint(options.checkpoint, options.weights, options.family)
    search = checkpoint.family.search()
    val_mae, batch = _validation(options, checkpoint, search)
    base = _base(checkpoint)
    recordings = prepared(episodes, search.steps, getattr(base, "default_instruction", ""))
    space = combinations(checkpoint, search, options.tried, options.first_only)
    ways = protocols(recordings.valid(), recordings.orders(), batch)
    reporter.note(
        f"{checkpoint.layout}: {len(space):,} combinations, {recordings.in_words()}, val_mae {val_mae:.6g}"
    )
    import_reference(checkpoint.family)
    clock = _Clock()
    with clock("hash"), reporter.stage("hashing the checkpoint", checkpoint.size_bytes, "bytes") as advance:
        sha256 = checkpoint.sha256(advance)
    with checkpoint.file.errors_explained(), gpu_memory_explained(GPU_IS_FULL):
        device = chosen_device(options.device, options.tf32)
        evaluator = _evaluator(options, checkpoint, search, recordings, space, sha256, device)
        with clock("backbones"):
            _run_backbones(evaluator.features, recordings, reporter, options.forecast_only)
        if options.forecast_only:
            return None
        with clock("combinations"), reporter.stage("trying combinations", len(space), "combinations") as done:
            scores = evaluator.scan(space, ways, done, partial(_tell_seconds, reporter))
        validated = options.validated or search.validated_on(checkpoint.architecture)
        with clock("verdict"):
            met = _Met(val_mae, batch, validated, options.tolerance)
            verdict = _verdict(scores, ways, met, space, evaluator)
            agreed = agreement(verdict, space, base, evaluator)
    return Outcome(
        checkpoint,
        sha256,
        val_mae,
        batch,
        validated,
        base,
        space,
        ways,
        recordings,
        verdict,
        agreed,
        device,
        peak_mib(device),
        clock.seconds,
    )


@dataclass(frozen=True)
class _Met:
    """What is to be met, and how it was taken."""

    val_mae: float
    batch: int
    validated: Validated
    tolerance: float


def _verdict(
    scores: Scores, ways: Sequence[ErrorProtocol], met: _Met, space: Sequence[Any], evaluator: Evaluator
) -> Verdict:
    if met.validated == "all":
        return judged(
            scores,
            ways,
            met.val_mae,
            met.tolerance,
            lambda one, other: evaluator.alike(space[one], space[other]),
        )
    return judged_by_fifths(
        scores, ways, met.val_mae, met.batch, lambda at, steps: evaluator.errors(space[at])[steps]
    )


def _validation(options: SearchOptions, checkpoint: Checkpoint, search: Search) -> tuple[float, int]:
    val_mae = options.val_mae if options.val_mae is not None else checkpoint.val_mae
    if val_mae is None:
        raise CheckpointError(
            f"{checkpoint.path} carries no val_mae, so there is nothing to find its settings by.",
            "Give the validation error of its epoch from the training's log: --val-mae 0.2220",
        )
    given = checkpoint.args.get("batch_size")
    known = given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else None
    return val_mae, options.batch_size or known or search.batch_size


def _base(checkpoint: Checkpoint) -> Any:
    beside = {name: numbers_in(value) for name, value in checkpoint.extra.items()}
    carried = checkpoint.family.carried(beside, given=())
    return checkpoint.family.settings.resolve(checkpoint.architecture, checkpoint=carried).values


def _evaluator(
    options: SearchOptions,
    checkpoint: Checkpoint,
    search: Search,
    recordings: Recordings,
    space: Sequence[Any],
    sha256: str,
    device: str,
) -> Evaluator:
    text = TextRequest(checkpoint.path, tuple(dict.fromkeys(recordings.instructions)), options.tokenizer)
    backbones = search.open(checkpoint.architecture, checkpoint.tensors, text, device)
    features = Features(
        recordings,
        backbones,
        f"{sha256} {checkpoint.state_dict_key}",
        options.cache,
        options.first_only,
        device,
    )
    asked: dict[Any, None] = {}
    for settings in space:
        needs = search.needs(settings)
        if needs not in asked:
            asked[needs] = None
            backbones.prepare(settings)
            features.ask(needs)
    return Evaluator(checkpoint.family, checkpoint.architecture, search, recordings, features)


def _run_backbones(
    features: Features, recordings: Recordings, reporter: Reporter, forecast_only: bool
) -> None:
    if features.backbones.device_bytes is not None:
        reporter.note(
            f"backbones: at most {features.backbones.frames_at_once} frames at once, "
            f"about {features.backbones.device_bytes / 2**30:.1f} GiB of the GPU's memory"
        )

    def forecast(told: Forecast) -> None:
        reporter.note(
            f"backbones: {told.of_one_s:.1f} s for an episode on {features.device}, {len(features.runs)} runs each; "
            f"about {_duration(told.left_s)} for {told.left} more; if it is ended early, what was done is kept"
        )
        if forecast_only:
            raise _ForecastGiven

    total = recordings.count * len(features.runs)
    try:
        with reporter.stage("running the backbones", total, "runs") as advance:
            features.compute(advance, forecast)
    except _ForecastGiven:
        return
    if forecast_only:
        reporter.note("backbones: all is in the cache; what is left takes no forecast")


def _tell_seconds(reporter: Reporter, seconds: float) -> None:
    if seconds >= WORTH_TELLING_S:
        reporter.note(f"combinations: about {_duration(seconds)} left")


class _ForecastGiven(Exception):  # noqa: N818
    """All that was asked for is known."""


def _duration(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


class _Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, part: str) -> AbstractContextManager[None]:
        from contextlib import contextmanager

        @contextmanager
        def timed() -> Any:
            start = time.perf_counter()
            yield
            self.seconds[part] = time.perf_counter() - start

        return timed()
