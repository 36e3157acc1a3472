"""The manifest of a bundle: types, validation, and the published JSON Schema.

`manifest.json` is the contract between an export and everything that later runs it. It is input from
outside: `manifest_file.decode` accepts only what these types describe (unknown fields are refused), and
upgrades what was written before (`manifest_v1`). `engines/README.md` is the prose form of this file.

The types are msgspec structs: decoding and validating takes well under a millisecond, and
`python -m vla_edge.runtime.bundle.manifest` prints the JSON Schema that they imply.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

SCHEMA_VERSION: Literal[2] = 2
MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
WEIGHTS_NAME = "model.onnx.data"
GOLDEN_NAME = "golden.npz"
TOKENIZER_NAME = "tokenizer.json"
MAX_MANIFEST_BYTES = 8 << 20
MAX_INSTRUCTIONS = 1000  # as many as an export declares
# Of what is told one by one, far beyond any export's: who shows or compares them takes their time.
MAX_LISTED = 256

# Patterns end in `$(?!\n)`: to Python "$" alone also stands before a line feed at the end.
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$(?!\\n)")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
# Also part of an array's name in golden.npz, and typed in `--gate STAGE=LIMIT`.
StageName = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$(?!\\n)", max_length=64)]
Unit = Annotated[str, Meta(min_length=1, max_length=32)]
# What an input is for: the runtime fills it by this, whatever the graph calls it. "frame" is in place of "pixels" where
# the graph takes a camera's frames as they are. "other" is for whoever drives the graph himself; a policy refuses it.
InputRole = Literal["pixels", "frame", "token_ids", "attention_mask", "instruction_index", "state", "other"]
OutputRole = Literal["actions", "state", "other"]
Metric = Literal["relative_l2", "max_abs"]
ACTION_STAGE = "action"  # of gates and errors: the graph's actions, in a component's own unit
CAMERA_STAGE = "camera"  # where the graph takes a camera's frames: the pixels that it makes of them
PIXELS = "pixel_values"  # what every family calls the input of that role, and golden samples its values
FRAME = "frame"  # the same of a camera's frame
Channels = Literal["rgb", "bgr"]  # their order in a frame's array; "bgr" as OpenCV has them
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
# Later code allocates by these numbers, so each has a largest value; sums are bounded by manifest_checks.
Dim = Annotated[int, Meta(gt=0, le=1 << 28)]
Shape = Annotated[tuple[Dim, ...], Meta(min_length=1, max_length=8)]
Pixels = Annotated[int, Meta(gt=0, le=4096)]
MIN_CAMERA_PX, MAX_CAMERA_PX = 8, 4096  # less is no camera's frame, as `images.reading` says
CameraPixels = Annotated[int, Meta(ge=MIN_CAMERA_PX, le=MAX_CAMERA_PX)]
TokenId = Annotated[int, Meta(ge=0, lt=1 << 31)]  # the graph takes int32
Tokens = Annotated[int, Meta(ge=0, le=1 << 16)]
Bytes = Annotated[int, Meta(ge=0, lt=1 << 50)]
# msgspec accepts any finite JSON number as a float; JSON has no NaN.
PerChannel = Annotated[tuple[float, float, float], Meta(description="one value per RGB channel")]


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Source(_Base, frozen=True):
    """The checkpoint that the bundle was made from."""

    file: Name
    size_bytes: Bytes
    sha256: Sha256 | None
    epoch: Annotated[int, Meta(ge=-(1 << 53), le=1 << 53)] | None
    val_mae: float | None
    layout: Name  # as the family of the policy names it
    layout_reasons: Annotated[tuple[str, ...], Meta(max_length=MAX_LISTED)]
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
    # "episodes": found by vla-settings on recorded episodes, and the standing is the evidence
    origin: Literal["default", "checkpoint", "episodes", "file", "option"]
    standing: str


Settings = Annotated[dict[Name, Setting], Meta(max_length=MAX_LISTED)]
Tools = Annotated[dict[Name, str], Meta(max_length=MAX_LISTED)]


class Architecture(_Base, frozen=True):
    """The policy's shapes as its family tells them, so that nobody guesses them from a number of parameters."""

    family: Name
    values: dict[Name, Any]


class TensorSpec(_Base, frozen=True):
    """A tensor of the graph. Shapes are static."""

    name: Name
    dtype: Literal["float32", "float16", "int32", "uint8"]
    shape: Shape


class Input(TensorSpec, frozen=True):
    """An input of the graph, and what is fed to it."""

    role: InputRole


class Output(TensorSpec, frozen=True):
    """An output of the graph, and what it is."""

    role: OutputRole


class Cut(_Base, frozen=True):
    """Where the graph may be cut in two: all tensors that cross from the first part to the second."""

    name: StageName
    tensors: Annotated[tuple[TensorSpec, ...], Meta(min_length=1, max_length=64)]


class Stage(_Base, frozen=True):
    """A named value of the graph that is compared with the reference's: what judges it, or locates an error."""

    name: StageName
    tensor: Name
    shape: Shape


class Preprocessing(_Base, frozen=True):
    """From an RGB frame to pixels, float32 [batch, 3, height, width]: the graph's work where there is a camera."""

    height: Pixels
    width: Pixels
    color: Literal["rgb"]
    # squash: both sides are scaled to the target, aspect ratio is not kept
    fit: Literal["squash"]
    resample: Literal["bilinear", "bicubic", "lanczos"]
    antialias: Literal[True]
    scale: float
    mean: PerChannel
    std: PerChannel


class Camera(_Base, frozen=True):
    """Whose frames the graph takes as they are, in the input of role "frame", uint8 [batch, height, width, 3].

    `channels` is their order in that array: "bgr" as OpenCV has them.
    """

    height: CameraPixels
    width: CameraPixels
    channels: Channels

    def __str__(self) -> str:
        return f"{self.width} wide, {self.height} high, {self.channels.upper()}"

    @property
    def frame_bytes(self) -> int:
        """Of one frame."""
        return 3 * self.height * self.width

    @property
    def options(self) -> str:
        """What to give `vla-export` for it: height x width, said in letters where it stands upright."""
        upright = self.height > self.width
        size = f"h{self.height}xw{self.width}" if upright else f"{self.height}x{self.width}"
        return f"--camera {size}{' --bgr' if self.channels == 'bgr' else ''}"


class ActionSpec(_Base, frozen=True):
    """From the graph's actions, float32 [batch, steps, size], to commands.

    command = clip(output * scale + offset, -limit, +limit), per component, in the unit of that component.
    """

    names: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)]
    units: tuple[Unit, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    limit: tuple[Annotated[float, Meta(gt=0)], ...]

    @property
    def unit(self) -> str:
        """What a figure over all components is in: "m/s", or "m/s or rad/s" where each is in its own unit."""
        return " or ".join(dict.fromkeys(self.units))


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
    """The largest error that a stage may have: ||x - ref|| / ||ref||, or of the action any component's, in its unit.

    `stage` is a declared one, or "action".
    """

    stage: StageName
    metric: Metric
    limit: Annotated[float, Meta(gt=0)]


class StageError(_Base, frozen=True):
    """The largest error over all golden samples, as measured."""

    stage: StageName
    relative_l2: float
    max_abs: float


class Parity(_Base, frozen=True):
    """Errors of the written file against the PyTorch FP32 policy.

    `max_abs` is the largest error of any component of the action, each in its own unit, after the scale and before
    the limits.
    """

    reference: str
    engine: str
    samples: Annotated[int, Meta(gt=0, le=1 << 20)]
    gates: Annotated[tuple[Gate, ...], Meta(max_length=32)]
    errors: Annotated[tuple[StageError, ...], Meta(max_length=MAX_LISTED)]
    max_abs: float


class Precision(_Base, frozen=True):
    asked: Literal["fp16", "fp32"]
    # what the written graph really holds
    achieved: Literal["fp16", "fp32"]
    weights_dtype: Literal["float16", "float32"]
    # kinds of operations kept in float32
    float32_islands: Annotated[tuple[str, ...], Meta(max_length=MAX_LISTED)]


class FileEntry(_Base, frozen=True):
    path: Name
    size_bytes: Bytes
    sha256: Sha256


class Manifest(_Base, frozen=True, kw_only=True, omit_defaults=True):
    schema_version: Literal[2]
    name: Name
    created_utc: Name
    source: Source
    # None in bundles that were written before it was recorded
    architecture: Architecture | None
    settings: Settings
    inputs: Annotated[tuple[Input, ...], Meta(min_length=1, max_length=64)]
    outputs: Annotated[tuple[Output, ...], Meta(min_length=1, max_length=64)]
    stages: Annotated[tuple[Stage, ...], Meta(max_length=64)]
    cuts: Annotated[tuple[Cut, ...], Meta(max_length=64)]
    preprocessing: Preprocessing
    # None where the runtime prepares the pixels, of frames of any size; then it is not written, as ever
    camera: Camera | None = None
    # None of a policy without text, which has no instructions either
    prompt: Prompt | None
    instructions: Annotated[tuple[Instruction, ...], Meta(max_length=MAX_INSTRUCTIONS)]
    default_instruction: Name | None
    runtime: Runtime
    action: ActionSpec
    precision: Precision
    parity: Parity
    tools: Tools
    files: Annotated[tuple[FileEntry, ...], Meta(max_length=64)]

    def input_of(self, role: InputRole) -> Input | None:
        """The first input of a role; of "state" and "other" there may be several."""
        return next((tensor for tensor in self.inputs if tensor.role == role), None)

    @property
    def image_input(self) -> Input | None:
        """The input for what the camera sees, as pixels or as the frame itself; None where there is none."""
        return self.input_of("frame") or self.input_of("pixels")

    @property
    def batch(self) -> int:
        """How many frames a run takes; 1 where it takes none, which a policy refuses."""
        image = self.image_input
        return image.shape[0] if image else 1

    @property
    def state_outputs(self) -> tuple[str, ...]:
        """The outputs that a runtime feeds back, [layers, batch, hidden]: it uses them as it does the actions."""
        return tuple(target for _, target in self.runtime.state)

    @property
    def uncompared_state(self) -> tuple[str, ...]:
        """Those of them that no stage compares with the reference, of a bundle from before they had to be stages."""
        compared = {stage.tensor for stage in self.stages}
        return tuple(name for name in self.state_outputs if name not in compared)

    @property
    def actions(self) -> Output:
        """The output that holds the actions: every manifest that was read has one."""
        return next(tensor for tensor in self.outputs if tensor.role == "actions")


def shared_unit(units: tuple[Unit, ...]) -> str | None:
    """That of all components; None where they differ."""
    return units[0] if len(set(units)) == 1 else None


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


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
