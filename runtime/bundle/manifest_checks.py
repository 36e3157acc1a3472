"""What the types of a manifest cannot say: that its parts fit each other, and what they would cost.

Everything later trusts these: buffers are allocated from the shapes, prompts are padded to the length,
samples are read by the sizes. So each sum is bounded here, before the first allocation.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from vla_edge.runtime.printable import one_line

from .manifest import ACTION_STAGE, CAMERA_STAGE, InputRole, Manifest, Prompt, TensorSpec

MAX_IO_BYTES = 512 << 20  # inputs and outputs of one call; 64 frames of 224 pixels take 38 MiB
MAX_STAGE_BYTES = 1 << 30
MAX_PROMPT_TOKENS = 1 << 24  # of all instructions together, padded
MAX_NORMALISED = 1e4  # a pixel in standard deviations: beyond it half precision overflows at once
MAX_SETTING_LEVELS = 16  # an export writes at most a list
_ITEM_BYTES = {"float32": 4, "float16": 2, "int32": 4, "uint8": 1}
# What the runtime writes into inputs of these roles: dtype, and how many axes.
_FILLED: dict[InputRole, tuple[str, int]] = {
    "pixels": ("float32", 4),
    "frame": ("uint8", 4),
    "token_ids": ("int32", 2),
    "attention_mask": ("int32", 2),
    "instruction_index": ("int32", 1),
}
# Arrays of golden.npz beside those of inputs and other outputs: references, and the tokenizer's own ids.
_GOLDEN_ARRAYS = ("names", "actions", "token_ids")


def normal_text(text: str) -> str:
    """An instruction as instructions are compared: composed (NFC), without surrounding space."""
    return unicodedata.normalize("NFC", text).strip()


def contradictions(manifest: Manifest) -> Iterator[str]:
    """What does not fit, one clause each; nothing for a manifest that holds."""
    for field, name in (("name", manifest.name), ("source.file", manifest.source.file)):
        if "/" in name or "\0" in name or name in (".", ".."):
            yield f"{field} {name!r} is a path, not a name"
    for field, name in _shown_names(manifest):
        if one_line(name) != name:
            yield f"{field} {name!r} holds characters that no name has"
    for key, setting in manifest.settings.items():
        if _is_deeper(setting.value, MAX_SETTING_LEVELS):
            yield f"setting {one_line(key)[:200]} is nested deeper than {MAX_SETTING_LEVELS} levels"
    if manifest.architecture and _is_deeper(manifest.architecture.values, MAX_SETTING_LEVELS):
        yield f"architecture.values are nested deeper than {MAX_SETTING_LEVELS} levels"
    yield from _action(manifest)
    yield from _preprocessing(manifest)
    yield from _instructions(manifest)
    yield from _prompt(manifest, manifest.prompt) if manifest.prompt else _no_prompt(manifest)
    yield from _tensors(manifest)
    yield from _roles(manifest)
    yield from _camera(manifest)
    yield from _state(manifest)
    if len({_batch(manifest, tensor) for tensor in (*manifest.inputs, *manifest.outputs)}) > 1:
        yield "its inputs and outputs are of several batch sizes"
    yield from _stages_and_gates(manifest)
    yield from _cuts(manifest)
    if twice := _twice(entry.path for entry in manifest.files):
        yield f"a file is listed twice ({twice!r})"


def _shown_names(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What commands print in lines and columns of their own."""
    yield "name", manifest.name
    yield "source.layout", manifest.source.layout
    if manifest.architecture:
        yield "architecture.family", manifest.architecture.family
    yield from (("action.names", name) for name in manifest.action.names)
    yield from (("action.units", unit) for unit in manifest.action.units)
    yield from (("a setting's name", name) for name in manifest.settings)


def _is_deeper(value: object, levels: int) -> bool:
    """Whether lists and objects are nested in more than so many levels."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            item
            for each in layer
            if isinstance(each, (dict, list))
            for item in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(layer)


def _action(manifest: Manifest) -> Iterator[str]:
    action = manifest.action
    size = len(action.names)
    for field in ("units", "scale", "offset", "limit"):
        if len(getattr(action, field)) != size:
            yield f"action.{field} has {len(getattr(action, field))} values for {size} action names"
    if twice := _twice(action.names):
        yield f"two components of the action are named {twice!r}"
    if any(unit.strip() != unit for unit in action.units):
        yield "action.units has space around a unit"
    if 0.0 in action.scale:
        yield "action.scale has a zero, so that the policy would have no say in that component"


def _preprocessing(manifest: Manifest) -> Iterator[str]:
    spec = manifest.preprocessing
    if any(value <= 0 for value in spec.std):
        yield "preprocessing.std has a value that is not positive"
        return
    if spec.scale <= 0:
        yield "preprocessing.scale is not positive"
    for mean, std in zip(spec.mean, spec.std, strict=True):
        if not all(abs((level * spec.scale - mean) / std) <= MAX_NORMALISED for level in (0, 255)):
            yield f"preprocessing gives pixels beyond {MAX_NORMALISED:g} standard deviations"
            return


def _instructions(manifest: Manifest) -> Iterator[str]:
    texts = [instruction.text for instruction in manifest.instructions]
    if manifest.default_instruction not in texts and (texts or manifest.default_instruction):
        yield f"default_instruction {manifest.default_instruction!r} is not among the instructions"
    if not all(map(normal_text, texts)):
        yield "an instruction is empty"
    if twice := _twice(map(normal_text, texts)):
        same = [text for text in texts if normal_text(text) == twice]
        yield f"an instruction is listed twice ({', '.join(map(repr, same))})"


def _no_prompt(manifest: Manifest) -> Iterator[str]:
    if manifest.instructions:
        yield "it has instructions and no prompt"
    for tensor in manifest.inputs:
        if tensor.role in ("token_ids", "attention_mask", "instruction_index"):
            yield f"{_shown(tensor)} is fed from a prompt, and it has none"


def _prompt(manifest: Manifest, prompt: Prompt) -> Iterator[str]:
    if not manifest.instructions:
        yield "it has a prompt and no instructions"
    least = prompt.image_start + prompt.image_tokens
    full = prompt.vocabulary == "full"
    if least > prompt.length:
        yield "the image tokens do not fit the prompt"
    if prompt.pad_id >= prompt.vocabulary_rows:
        yield f"prompt.pad_id {prompt.pad_id} is beyond the {prompt.vocabulary_rows} embedding rows"
    if len(manifest.instructions) * prompt.length > MAX_PROMPT_TOKENS:
        yield f"its prompts hold more than {MAX_PROMPT_TOKENS} tokens together"
    for place in ("{image_tokens}", "{instruction}"):
        count = prompt.template.count(place)
        if count > 1 or (full and not count):
            yield f"prompt.template holds {place} {count} times"
    for instruction in manifest.instructions:
        name, ids = f"instruction {instruction.text!r}", instruction.graph_ids
        if len(ids) != len(instruction.token_ids):
            yield f"{name} has differing numbers of token and graph ids"
        if not least <= len(ids) <= prompt.length:
            yield f"{name} does not fit the prompt of {prompt.length} tokens"
        if max(ids, default=0) >= prompt.vocabulary_rows:
            yield f"{name} has an id beyond the {prompt.vocabulary_rows} embedding rows"


def _tensors(manifest: Manifest) -> Iterator[str]:
    tensors = (*manifest.inputs, *manifest.outputs)
    if twice := _twice(tensor.name for tensor in tensors):
        yield f"two tensors are named {twice!r}"
    size_bytes = sum(map(bytes_of, tensors))
    if size_bytes > MAX_IO_BYTES:
        yield f"its inputs and outputs take {size_bytes} bytes, a call at most {MAX_IO_BYTES}"
    for tensor in manifest.inputs:
        dtype, rank = _FILLED.get(tensor.role, (tensor.dtype, len(tensor.shape)))
        if (tensor.dtype, len(tensor.shape)) != (dtype, rank):
            yield f"{_shown(tensor)} has to be {dtype} of rank {rank}"
        if _is_golden_array(tensor.name):
            yield f"an input is named {tensor.name!r}, as another array of the golden samples"
    actions = [tensor for tensor in manifest.outputs if tensor.role == "actions"]
    if len(actions) != 1:
        yield f"{len(actions)} of its outputs are the actions"
    for output in manifest.outputs:
        if output.role == "other" and _is_golden_array(output.name):
            yield f"an output is named {output.name!r}, as another array of the golden samples"
    size = len(manifest.action.names)
    for output in actions:
        if output.dtype != "float32" or len(output.shape) != 3 or output.shape[2] != size:
            yield f"{_shown(output)} has to be float32 [batch, steps, {size}]"


def _is_golden_array(name: str) -> bool:
    return name in _GOLDEN_ARRAYS or name.startswith("stage_")


def _roles(manifest: Manifest) -> Iterator[str]:
    """Carried state is what `runtime.state` pairs, and an input that is filled is there once."""
    if twice := _twice(tensor.role for tensor in manifest.inputs if tensor.role in _FILLED):
        yield f"two inputs have the role {twice!r}"
    carried = {name for pair in manifest.runtime.state for name in pair}
    roles = {tensor.name: tensor.role for tensor in manifest.inputs}
    for name, role in {**roles, **{tensor.name: tensor.role for tensor in manifest.outputs}}.items():
        if (role == "state") != (name in carried):
            yield f"runtime.state and the role {role!r} of {name!r} do not fit each other"


def _camera(manifest: Manifest) -> Iterator[str]:
    """A camera and the input for its frames go together, and nothing else of the graph is in bytes."""
    camera, frame = manifest.camera, manifest.input_of("frame")
    if frame and manifest.input_of("pixels"):
        yield f"it takes both pixels and frames, {frame.name!r}"
    if camera and not frame:
        yield "it has a camera and no input for its frames"
    if frame and not camera:
        yield f"{_shown(frame)} is of no camera"
    if camera and frame and frame.shape[1:] != (camera.height, camera.width, 3):
        yield f"{_shown(frame)} is not of its camera, {camera.height} high and {camera.width} wide"
    if camera and frame:
        spec = manifest.preprocessing
        pixels = (frame.shape[0], 3, spec.height, spec.width)
        if pixels not in (stage.shape for stage in manifest.stages if stage.name == CAMERA_STAGE):
            yield f"it has a camera and no stage {CAMERA_STAGE!r} of {list(pixels)}, which would tell that it is right"
    crossing = (tensor for cut in manifest.cuts for tensor in cut.tensors)
    for tensor in (*manifest.inputs, *manifest.outputs, *crossing):
        if tensor.dtype == "uint8" and tensor is not frame:
            yield f"{_shown(tensor)} is in bytes, which only a frame is"


def _state(manifest: Manifest) -> Iterator[str]:
    inputs = {tensor.name: tensor for tensor in manifest.inputs}
    outputs = {tensor.name: tensor for tensor in manifest.outputs}
    for source, target in manifest.runtime.state:
        if source not in inputs or target not in outputs:
            yield f"runtime.state names {(source, target)}, which the graph does not have"
        elif (inputs[source].dtype, inputs[source].shape) != (outputs[target].dtype, outputs[target].shape):
            yield f"runtime.state carries {_shown(outputs[target])} to {_shown(inputs[source])}"
        elif inputs[source].dtype != "float32" or len(inputs[source].shape) != 3:
            yield f"runtime.state: {_shown(inputs[source])} has to be float32 [layers, batch, hidden]"
    for side in (0, 1):
        if twice := _twice(pair[side] for pair in manifest.runtime.state):
            yield f"runtime.state names {twice!r} twice"


def _stages_and_gates(manifest: Manifest) -> Iterator[str]:
    if twice := _twice(stage.name for stage in manifest.stages):
        yield f"the stage {twice!r} is listed twice"
    size_bytes = sum(math.prod(stage.shape) * 4 for stage in manifest.stages)
    if size_bytes > MAX_STAGE_BYTES:
        yield f"its stages take {size_bytes} bytes, at most {MAX_STAGE_BYTES}"
    for stage in manifest.stages:
        actions = {tensor.name for tensor in manifest.outputs if tensor.role == "actions"}
        if stage.name == ACTION_STAGE and stage.tensor not in actions:
            yield f"the stage {ACTION_STAGE!r} is the tensor {stage.tensor!r}, not the graph's actions"
    # What is compared is the tensor itself where it can be seen, as any output can.
    crossing = (tensor for cut in manifest.cuts for tensor in cut.tensors)
    seen = [(tensor.name, tensor.shape) for tensor in (*manifest.inputs, *manifest.outputs, *crossing)]
    for stage in manifest.stages:
        if any(name == stage.tensor and shape != stage.shape for name, shape in seen):
            what = "state" if stage.tensor in manifest.state_outputs else "tensor"
            yield f"the stage {stage.name!r} has not the shape of the {what} {stage.tensor!r}"
    known = {ACTION_STAGE, *(stage.name for stage in manifest.stages)}
    parity = manifest.parity
    for told in [gate.stage for gate in parity.gates] + [error.stage for error in parity.errors]:
        if told not in known:
            yield f"parity tells of a stage {told!r} that it does not list"
    for gate in parity.gates:
        if (gate.metric == "max_abs") != (gate.stage == ACTION_STAGE):
            yield f"the gate of stage {gate.stage!r} is in {gate.metric}"


def _cuts(manifest: Manifest) -> Iterator[str]:
    if twice := _twice(cut.name for cut in manifest.cuts):
        yield f"the cut {twice!r} is listed twice"
    for cut in manifest.cuts:
        if twice := _twice(tensor.name for tensor in cut.tensors):
            yield f"the cut {cut.name!r} names the tensor {twice!r} twice"
        size_bytes = sum(map(bytes_of, cut.tensors))
        if size_bytes > MAX_IO_BYTES:
            yield f"the tensors of the cut {cut.name!r} take {size_bytes} bytes, at most {MAX_IO_BYTES}"


def bytes_of(tensor: TensorSpec) -> int:
    """What a buffer for a tensor takes."""
    return math.prod(tensor.shape) * _ITEM_BYTES[tensor.dtype]


def _batch(manifest: Manifest, tensor: TensorSpec) -> int:
    """The size along the batch axis, which is the second of carried state."""
    states = {name for pair in manifest.runtime.state for name in pair}
    return tensor.shape[1 if tensor.name in states and len(tensor.shape) > 1 else 0]


def _shown(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} {list(tensor.shape)}"


def _twice(values: Iterable[str]) -> str | None:
    return next((value for value, count in Counter(values).items() if count > 1), None)
