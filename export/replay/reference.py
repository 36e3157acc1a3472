"""PyTorch FP32 in the place of an engine, so that `Policy` runs it on frames exactly as it runs a bundle."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_edge.export.libraries import gpu_memory_explained
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import PIXELS, Manifest
from vla_edge.runtime.engines.session import EngineIdentity, HostWork, nothing
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.files.digest import sha256_of
from vla_edge.runtime.policy import Policy
from vla_edge.runtime.preprocess import Preprocessor

if TYPE_CHECKING:
    import torch


GPU_IS_FULL = (
    "FP32 takes twice the bytes of FP16: end what else runs there, or hide it by CUDA_VISIBLE_DEVICES=."
)


def load_reference(folder: Path, checkpoint: Path, gpu: int | None = None) -> Policy:
    """The policy that a bundle was exported from, in PyTorch FP32; on the GPU where torch sees one.

    What a runtime does around the graph (preprocessing, instructions, carried state, a held first frame, limits) is
    the bundle's, and so are the settings.

    Args:
        folder: the bundle; its graph is not read.
        checkpoint: that it was exported from.
        gpu: CUDA's index of it; None for the first, or the CPU where torch sees none.

    Raises:
        InputError: another checkpoint than the bundle's, one that cannot be used, or no such GPU.
        ResourceError: the GPU's memory is too small.
    """
    from vla_edge.export.checkpoint.checkpoint import read_checkpoint
    from vla_edge.export.families import family_of_bundle
    from vla_edge.export.libraries import import_reference

    bundle = Bundle.open(folder, "size")
    manifest = bundle.manifest
    _require_source(checkpoint, manifest)
    family = family_of_bundle(manifest)
    import_reference(family)
    device = torch_device(gpu)
    read = read_checkpoint(checkpoint, manifest.source.weights_key or None, family.name)
    settings = family.settings.from_manifest(manifest)
    policy = family.reference(read.architecture, settings, read.tensors, fused=True)
    with gpu_memory_explained(GPU_IS_FULL):
        return Policy(bundle, ReferenceSession(policy, bundle, device))


def torch_device(gpu: int | None) -> str:
    """Where torch computes, by its own name.

    Args:
        gpu: as of `load_reference`.

    Raises:
        InputError: torch sees no such GPU.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu is not None and gpu >= count:
        raise InputError(
            f"--device {gpu}: torch sees {count} GPUs.", "Leave it out, or install a torch built for CUDA."
        )
    return f"cuda:{gpu or 0}" if count else "cpu"


def _require_source(checkpoint: Path, manifest: Manifest) -> None:
    source = manifest.source
    if not checkpoint.is_file():
        raise InputError(f"there is no checkpoint {checkpoint}.", f"Give {source.file}.")
    same = checkpoint.stat().st_size == source.size_bytes
    if not same or (source.sha256 is not None and sha256_of(checkpoint) != source.sha256):
        raise InputError(
            f"{manifest.name} was not exported from {checkpoint}: its size or SHA-256 is another.",
            f"Give the checkpoint that it was exported from, {source.file}, or export this one.",
        )


class _Pixels:
    """What Pillow makes of a camera's frames, for the policy in PyTorch, which knows of no camera."""

    def __init__(self, manifest: Manifest) -> None:
        spec, camera = manifest.preprocessing, manifest.camera
        self._prepare = Preprocessor(spec, camera.channels if camera else "rgb")
        self._pixels = np.empty((manifest.batch, 3, spec.height, spec.width), np.float32)
        frame = manifest.input_of("frame")
        self._frame = frame.name if frame else ""

    def in_place_of_frames(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        for frame, out in zip(inputs[self._frame], self._pixels, strict=True):
            self._prepare(frame, out)
        others = {name: value for name, value in inputs.items() if name != self._frame}
        return {PIXELS: self._pixels, **others}


class ReferenceSession:
    """A policy in PyTorch with host arrays in and out, as `Session` asks.

    Args:
        policy: in eval mode, FP32, its `forward` free of gradients and giving a dict; moved in place.
        bundle: whose inputs and outputs it takes and gives.
        device: of torch.
    """

    def __init__(self, policy: torch.nn.Module, bundle: Bundle, device: str) -> None:
        import torch

        manifest = bundle.manifest
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._torch = torch
        self._device = torch.device(device)
        self._policy: torch.nn.Module | None = policy.to(self._device)
        self.inputs: Mapping[str, np.ndarray] = {
            spec.name: np.zeros(spec.shape, spec.dtype) for spec in manifest.inputs
        }
        self.outputs: Mapping[str, np.ndarray] = {
            spec.name: np.zeros(spec.shape, np.float32) for spec in manifest.outputs
        }
        self._pixels = None if manifest.camera is None else _Pixels(manifest)
        rows = manifest.input_of("token_ids")
        self._rows = None if rows is None else rows.name
        self._token_ids = _token_ids(bundle)
        self.identity = EngineIdentity(
            "torch", str(torch.__version__), self._where(), "eager", "fp32", "fp32", bundle.identity
        )

    def run(self, host_work: HostWork = nothing) -> None:
        """Copy in, forward, copy out; `host_work` runs before.

        Raises:
            EngineError: the session is closed.
            ResourceError: the GPU's memory is full.
        """
        if self._policy is None:
            raise EngineError("this session is closed.", "Load the policy again.")
        host_work()
        torch = self._torch
        with torch.inference_mode(), gpu_memory_explained(GPU_IS_FULL):
            found = self._policy(
                **{name: torch.from_numpy(value).to(self._device) for name, value in self._fed().items()}
            )
        for name, output in self.outputs.items():
            np.copyto(output, found[name].float().cpu().numpy())

    def close(self) -> None:
        """Let go of the weights."""
        if self._policy is not None:
            self._policy = None
            if self._device.type == "cuda":
                gc.collect()  # modules refer to each other in circles
                self._torch.cuda.empty_cache()

    def _fed(self) -> Mapping[str, np.ndarray]:
        """The inputs: the tokenizer's ids in place of rows of a smaller embedding, pixels in place of frames."""
        inputs = self.inputs if self._pixels is None else self._pixels.in_place_of_frames(self.inputs)
        if self._rows is None or not self._token_ids:
            return inputs
        rows = inputs[self._rows]
        known = self._token_ids.get(rows.tobytes())
        return inputs if known is None else {**inputs, self._rows: known}

    def _where(self) -> str:
        if self._device.type == "cuda":
            return f"{self._device} {self._torch.cuda.get_device_name(self._device)}"
        return f"cpu ({self._torch.get_num_threads()} threads)"


def _token_ids(bundle: Bundle) -> dict[bytes, np.ndarray]:
    """The tokenizer's ids int32 [1, L] of each declared instruction, by the bytes of what the graph is fed for it.

    Empty where the two are the same: of a bundle with the whole vocabulary, or without text.
    """
    manifest = bundle.manifest
    prompt = manifest.prompt
    if prompt is None or prompt.vocabulary == "full":
        return {}
    golden = load_golden(bundle)
    # behind a prompt's end the mask is zero; what the exporter put there is taken all the same
    beyond = golden["token_ids"][golden["attention_mask"] == 0] if "token_ids" in golden else np.zeros(0)
    filler = int(beyond[0]) if beyond.size else 0
    found = {}
    for each in manifest.instructions:
        rows = np.full((1, prompt.length), prompt.pad_id, np.int32)
        rows[0, : len(each.graph_ids)] = each.graph_ids
        tokens = np.full((1, prompt.length), filler, np.int32)
        tokens[0, : len(each.token_ids)] = each.token_ids
        found[rows.tobytes()] = tokens
    return found
