"""The manifest of a bundle: types, validation, and the published JSON Schema.

`manifest.json` is the contract between an export and everything that later runs it. It is input from
outside: `decode` accepts only what these types describe (unknown fields are refused), and raises
`BundleError` naming the field. `engines/README.md` is the prose form of this file.

The types are msgspec structs: decoding and validating takes well under a millisecond, and
`python -m vla_edge.runtime.bundle.manifest` prints the JSON Schema that they imply.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from vla_edge.runtime.errors import BundleError

from .manifest_checks import contradictions

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
WEIGHTS_NAME = "model.onnx.data"
GOLDEN_NAME = "golden.npz"
TOKENIZER_NAME = "tokenizer.json"
MAX_MANIFEST_BYTES = 8 << 20
MAX_INSTRUCTIONS = 1000  # as many as an export declares

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
StageName = Literal["vision", "text", "clip", "fusion", "action"]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
# Later code allocates by these numbers, so each has a largest value; sums are bounded by manifest_checks.
Dim = Annotated[int, Meta(gt=0, le=1 << 28)]
Shape = Annotated[tuple[Dim, ...], Meta(min_length=1, max_length=8)]
Pixels = Annotated[int, Meta(gt=0, le=4096)]
TokenId = Annotated[int, Meta(ge=0, lt=1 << 31)]  # the graph takes int32
Tokens = Annotated[int, Meta(ge=0, le=1 << 16)]
Bytes = Annotated[int, Meta(ge=0, lt=1 << 50)]
# msgspec accepts any finite JSON number as a float; JSON has no NaN.
Channels = Annotated[tuple[float, float, float], Meta(description="one value per RGB channel")]


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Source(_Base, frozen=True):
    """The checkpoint that the bundle was made from."""

    file: Name
    size_bytes: Bytes
    sha256: Sha256 | None
    epoch: Annotated[int, Meta(ge=-(1 << 53), le=1 << 53)] | None
    val_mae: float | None
    layout: Literal["pure", "hybrid-a", "hybrid-b", "hybrid-c"]
    layout_reasons: tuple[str, ...]
    parameters: Annotated[int, Meta(gt=0, le=1 << 32)]
    # "checkpoint", or for a generated sample "sample: ..." so that no figure from random weights passes as real
    weights_origin: Name
    # Where in the checkpoint the weights were, such as "model_state_dict"; "" for a bare state dict, and in manifests
    # from before this field
    weights_key: Annotated[str, Meta(max_length=200)] = ""
    # Keys of other weights of the same names, such as averaged ones, which were not taken
    other_weights: tuple[Name, ...] = ()


class Setting(_Base, frozen=True):
    """One choice of the forward pass, who made it, and how sure it is."""

    value: Any
    origin: Literal["default", "checkpoint", "file", "option"]
    standing: str


class TensorSpec(_Base, frozen=True):
    """An input or output of the graph. Shapes are static."""

    name: Name
    dtype: Literal["float32", "float16", "int32"]
    shape: Shape


class Stage(_Base, frozen=True):
    """A named intermediate value of the graph, kept so that errors can be located."""

    name: StageName
    tensor: Name
    shape: Shape


class Preprocessing(_Base, frozen=True):
    """From an RGB frame to `pixel_values`, float32 [batch, 3, height, width]."""

    height: Pixels
    width: Pixels
    color: Literal["rgb"]
    # squash: both sides are scaled to the target, aspect ratio is not kept
    fit: Literal["squash"]
    resample: Literal["bilinear", "bicubic", "lanczos"]
    antialias: Literal[True]
    scale: float
    mean: Channels
    std: Channels


class ActionSpec(_Base, frozen=True):
    """From the graph's `actions`, float32 [batch, steps, size], to commands.

    command = clip(output * scale + offset, -limit, +limit), per component.
    """

    names: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)]
    unit: Literal["m/s"]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    limit: tuple[Annotated[float, Meta(gt=0)], ...]


class Instruction(_Base, frozen=True):
    """An instruction that the bundle can follow.

    `token_ids` are the tokenizer's, `graph_ids` what the graph is fed: the same, or row numbers of a
    reduced embedding. Both are unpadded and hold `image_tokens` placeholders at `image_start`.
    """

    text: Name
    token_ids: tuple[TokenId, ...]
    graph_ids: tuple[TokenId, ...]


class Prompt(_Base, frozen=True):
    """How text and image tokens share the sequence."""

    template: Annotated[str, Meta(max_length=1000)]
    length: Annotated[int, Meta(gt=0, le=1 << 16)]
    image_start: Tokens
    image_tokens: Annotated[int, Meta(gt=0, le=1 << 16)]
    pad_id: TokenId
    # "full": graph_ids are token_ids, new instructions can be tokenised; "declared": only those listed
    vocabulary: Literal["full", "declared"]
    vocabulary_rows: Annotated[int, Meta(gt=0, lt=1 << 31)]


class Runtime(_Base, frozen=True):
    """What the runtime does around the graph."""

    frame: Literal["current", "first"]
    # names of (input, output) pairs carried between calls, zero at reset
    state: Annotated[tuple[tuple[Name, Name], ...], Meta(max_length=32)]


class Gate(_Base, frozen=True):
    """The largest error that a stage may have: `relative` = ||x - ref|| / ||ref||, or absolute m/s for actions."""

    stage: StageName
    metric: Literal["relative_l2", "max_abs_mps"]
    limit: Annotated[float, Meta(gt=0)]


class StageError(_Base, frozen=True):
    """The largest error over all golden samples, as measured."""

    stage: StageName
    relative_l2: float
    max_abs: float


class Parity(_Base, frozen=True):
    """Errors of the written file against the PyTorch FP32 policy."""

    reference: str
    engine: str
    samples: Annotated[int, Meta(gt=0, le=1 << 20)]
    gates: Annotated[tuple[Gate, ...], Meta(max_length=32)]
    errors: tuple[StageError, ...]
    max_abs_mps: float


class Precision(_Base, frozen=True):
    asked: Literal["fp16", "fp32"]
    # what the written graph really holds
    achieved: Literal["fp16", "fp32"]
    weights_dtype: Literal["float16", "float32"]
    # kinds of operations kept in float32
    float32_islands: tuple[str, ...]


class FileEntry(_Base, frozen=True):
    path: Name
    size_bytes: Bytes
    sha256: Sha256


class Manifest(_Base, frozen=True):
    schema_version: Literal[1]
    name: Name
    created_utc: Name
    source: Source
    settings: dict[str, Setting]
    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=64)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=64)]
    stages: Annotated[tuple[Stage, ...], Meta(max_length=64)]
    preprocessing: Preprocessing
    prompt: Prompt
    instructions: Annotated[tuple[Instruction, ...], Meta(min_length=1, max_length=MAX_INSTRUCTIONS)]
    default_instruction: Name
    runtime: Runtime
    action: ActionSpec
    precision: Precision
    parity: Parity
    tools: dict[str, str]
    files: Annotated[tuple[FileEntry, ...], Meta(max_length=64)]


def decode(data: bytes, origin: str = MANIFEST_NAME) -> Manifest:
    """Validate the bytes of a manifest.

    Args:
        data: the content of `manifest.json`.
        origin: what to call the file in errors.

    Raises:
        BundleError: not JSON, another schema version, or a field that does not fit; names the field.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{origin} has {len(data)} bytes, a manifest at most {MAX_MANIFEST_BYTES}.", "Export it again."
        )
    version = _schema_version(data, origin)
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{origin} has schema version {version!r}; this runtime reads version {SCHEMA_VERSION}.",
            "Export the checkpoint again with this version of vla-edge, or install the version that wrote the bundle.",
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BundleError(
            f"{origin} is not a valid manifest: {error}.", "It was damaged or edited; export it again."
        ) from error
    _check_consistency(manifest, origin)
    return manifest


def encode(manifest: Manifest) -> bytes:
    """The bytes of `manifest.json`: UTF-8, indented, fields in the order of the types."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the manifest."""
    # as JSON reads it: defaults of types are tuples, and JSON has arrays
    schema = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Manifest)))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "vla-edge bundle manifest",
        **schema,
    }


def _schema_version(data: bytes, origin: str) -> Any:
    try:
        head = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(
            f"{origin} is not JSON: {error}.", "It was damaged or truncated; export it again."
        ) from error
    if not isinstance(head, dict):
        raise BundleError(
            f"{origin} is not a manifest: it holds a JSON {type(head).__name__}.",
            "Point at a folder that vla-export wrote.",
        )
    return head.get("schema_version")


def _check_consistency(manifest: Manifest, origin: str) -> None:
    """What the types alone cannot say."""
    for problem in contradictions(manifest):
        raise BundleError(
            f"{origin} contradicts itself: {problem}.", "It was damaged or edited; export it again."
        )


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
