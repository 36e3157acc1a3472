"""The reference's modules under every setting that is tried: backbones run once, the rest for each combination.

All that computes is `export/kosmos2/reference.py`, part by part, so that what is found here is what an export does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from vla_edge.export.family import PromptRequest
from vla_edge.export.family_search import Need, TextRequest
from vla_edge.export.kosmos2.architecture import Architecture
from vla_edge.export.kosmos2.reference import VlaPolicy, pool
from vla_edge.export.kosmos2.settings import Feature, PolicySettings
from vla_edge.export.kosmos2.tokens import prompts_of
from vla_edge.runtime.bundle.manifest import Preprocessing
from vla_edge.runtime.process.cores import usable_cores

from .pixels import PixelsAhead
from .prompts import states_of_prompts
from .space import needs, pixels_of

POOLINGS = ("max", "mean", "last")
PROMPTS = ("image_first", "image_first_grounding")
# Rows of the LSTM at once: 100 MB at full size
_ROWS = 8192

Build = Callable[[PolicySettings], VlaPolicy]


@dataclass
class Kosmos2Backbones:
    """The modules of one checkpoint on one device.

    Attributes:
        arch: its shapes.
        build: the reference with these settings, its weights shared with all others and on the device.
        text: the instructions, and where a tokenizer is.
        spec: what of a frame's way to pixels is a setting.
        device: of torch.
        frames_at_once, device_bytes: see `Backbones`.
        runs: settings by the name of the run that they ask for.
        prompts: by the name of a text output.
    """

    arch: Architecture
    build: Build
    text: TextRequest
    spec: Callable[[PolicySettings], Preprocessing]
    device: str
    frames_at_once: int = 1
    device_bytes: int | None = None
    runs: dict[str, PolicySettings] = field(default_factory=dict)
    prompts: dict[str, PolicySettings] = field(default_factory=dict)
    _policies: dict[tuple[str, str], VlaPolicy] = field(default_factory=dict)
    _ids: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    _workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(usable_cores()))

    def prepare(self, settings: PolicySettings) -> None:
        """Remember what the needs of these settings stand for; tokenises their prompt.

        Raises:
            InputError: an instruction cannot be tokenised.
        """
        for feature, need in zip(settings.features, needs(settings), strict=True):
            self.runs.setdefault(need.run, settings)
            if feature == "text" and need.name not in self.prompts:
                self.prompts[need.name] = settings
                self._ids_of(settings)

    def text_key(self, instruction: str) -> str:
        if not self.prompts:
            return ""
        # of every form, whichever are asked for now: features outlive this search
        some = next(iter(self.prompts.values()))
        ids = {form: self._ids_of(replace(some, prompt=form))[instruction] for form in PROMPTS}
        return json.dumps(ids)

    @torch.inference_mode()
    def run(
        self, frames: Sequence[np.ndarray], instruction: str, asked: Mapping[str, Collection[str]]
    ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        by_pixels: dict[str, list[str]] = {}
        for run in sorted(asked):
            by_pixels.setdefault(pixels_of(self.runs[run]), []).append(run)
        # all of them at once: while one is in the backbones, the next are made
        prepared = [
            (PixelsAhead(self.spec(self.runs[runs[0]]), frames, self._workers), runs)
            for runs in by_pixels.values()
        ]
        while prepared:
            pixels, runs = prepared.pop(0)
            seen = _Seen(pixels, self.device)
            for run in runs:
                found = self._one(run, seen, instruction, asked[run])
                yield run, {name: value.cpu().numpy() for name, value in found.items()}

    def _one(self, run: str, seen: _Seen, instruction: str, names: Collection[str]) -> dict[str, Tensor]:
        policy = self._policy(self.runs[run])
        kind = run.partition(" ")[0]
        if kind == "clip_text":
            index = self.text.instructions.index(instruction)
            found = policy.clip_text(policy.clip_ids[index : index + 1])
            return {kind: found.expand(len(seen), -1)}
        if kind == "clip_image":
            return {kind: policy.clip_image(seen.pixels)}
        if kind == "vision":
            return {kind: policy.vision_of(seen.states(policy))}
        return self._tokens(policy, policy.tokens_of(seen.states(policy)), instruction, names)

    def _tokens(
        self, policy: VlaPolicy, tokens: Tensor, instruction: str, names: Collection[str]
    ) -> dict[str, Tensor]:
        """Every pooling of the image's tokens, and of the text's states for each prompt that is asked for."""
        found = {f"image_projection {how}": pool(tokens, None, how) for how in POOLINGS}
        by_place: dict[int, dict[str, tuple[int, ...]]] = {}
        for prompt in dict.fromkeys(name.rpartition(" ")[0] for name in names if name.startswith("text ")):
            settings = next(self.prompts[name] for name in names if name.startswith(f"{prompt} "))
            ids = self._ids_of(settings)[instruction]
            by_place.setdefault(settings.image_start, {})[prompt] = ids
        for place, prompts in by_place.items():
            policy.settings = replace(policy.settings, image_start=place)
            for prompt, states in zip(
                prompts, states_of_prompts(policy, tokens, [*prompts.values()]), strict=True
            ):
                found |= {f"{prompt} {how}": pool(states, None, how) for how in POOLINGS}
        return found

    @torch.inference_mode()
    def decide(
        self, settings: Sequence[PolicySettings], features: Mapping[Need, Tensor], steps: int
    ) -> Iterator[Tensor]:
        known: dict[str, _Hidden] = {}
        for each in settings:
            if each.clip_feature not in known:
                known[each.clip_feature] = _Hidden(self._policy(each), each, features, steps)
            yield known[each.clip_feature].actions(each)

    def _policy(self, settings: PolicySettings) -> VlaPolicy:
        """The reference whose modules are those of the settings; what of them is no module's is set by the caller."""
        key = settings.projection_attention, settings.clip_activation
        if key not in self._policies:
            uses: tuple[Feature, ...] = settings.features
            if self.arch.clip and any(run.startswith("clip_text") for run in self.runs):
                uses = (*uses, "clip_text")
            texts = self.text.instructions
            whole = replace(settings, features=uses, instructions=texts, default_instruction=texts[0])
            # cuDNN's layout of weights cannot be made in inference mode
            with torch.inference_mode(False), torch.no_grad():
                self._policies[key] = self.build(whole)
        policy = self._policies[key]
        # the backbones' own outputs are kept, and what is done to them is done in `decide`
        policy.settings = replace(settings, clip_feature="projected")
        return policy

    def _ids_of(self, settings: PolicySettings) -> dict[str, tuple[int, ...]]:
        key = settings.prompt
        if key not in self._ids:
            texts = self.text.instructions
            # the tokenizer writes the image at its own place, wherever training then put it
            asked = PolicySettings(
                prompt=settings.prompt, features=("text",), instructions=texts, default_instruction=texts[0]
            )
            prompts = prompts_of(self.arch, asked, PromptRequest(self.text.checkpoint, self.text.tokenizer))
            ids = {one.text: one.token_ids for one in prompts.instructions} if prompts else {}
            self._ids[key] = ids
        return self._ids[key]


class _Seen:
    """Frames made pixels in one way, and the vision tower's states over them: each once, for all runs that see them."""

    def __init__(self, ahead: PixelsAhead, device: str) -> None:
        self._ahead, self._device = ahead, device
        self._states: Tensor | None = None

    def __len__(self) -> int:
        return len(self._ahead)

    @cached_property
    def pixels(self) -> Tensor:
        """[F, 3, H, W]"""
        return torch.from_numpy(self._ahead.result()).to(self._device)

    def states(self, policy: VlaPolicy) -> Tensor:
        """[F, patches, width]; every policy has the same tower."""
        if self._states is None:
            self._states = policy.vision_states(self.pixels)
        return self._states


class _Hidden:
    """The LSTM's outputs over one set of features, each way of running it once."""

    def __init__(
        self, policy: VlaPolicy, settings: PolicySettings, features: Mapping[Need, Tensor], steps: int
    ) -> None:
        self._policy, self._steps = policy, steps
        policy.settings = settings
        parts = [
            policy.maybe_normalize(features[need]) if feature.startswith("clip_") else features[need]
            for feature, need in zip(settings.features, needs(settings), strict=True)
        ]
        self._fused = policy.fuse(parts)  # [E, steps or 1, input]
        self._known: dict[Any, Tensor] = {}

    def actions(self, settings: PolicySettings) -> Tensor:
        """[E, steps, size]"""
        key = (
            settings.lstm,
            settings.lstm_window,
            settings.lstm_outputs,
            settings.frame,
            settings.final_tanh,
        )
        if key not in self._known:
            hidden = self._hidden(settings)
            self._policy.settings = settings
            decided = self._policy.decide(hidden)
            self._known[key] = decided.expand(-1, self._steps, -1)
        return self._known[key]

    def _hidden(self, settings: PolicySettings) -> Tensor:
        """[E, steps, hidden], or [E, 1, hidden] where one frame answers for all."""
        is_first = settings.frame == "first"
        if settings.lstm == "carried":
            source = self._fused[:, :1].expand(-1, self._steps, -1) if is_first else self._fused
            return self._once(("carried", is_first), lambda: self._policy.rnn(source)[0])
        source = self._fused[:, :1] if is_first else self._fused
        # The window repeats one feature, so that its steps are those of any longer window. A robot takes the first
        # of the outputs.
        longest = max(settings.lstm_window, 8)
        outputs = self._once((longest, is_first), lambda: self._repeated(source, longest))
        taken = 0 if settings.lstm == "single" else settings.lstm_window - settings.lstm_outputs
        return outputs[:, :, taken]

    def _repeated(self, source: Tensor, count: int) -> Tensor:
        """Each feature of [E, F, input] by itself, `count` times from a zero state: [E, F, count, hidden]."""
        rows = source.reshape(-1, 1, source.shape[-1])
        size = max(1, _ROWS // count)
        hidden = [self._policy.rnn(part.expand(-1, count, -1))[0] for part in rows.split(size)]
        return torch.cat(hidden).reshape(*source.shape[:2], count, -1)

    def _once(self, key: Any, compute: Callable[[], Tensor]) -> Tensor:
        if ("lstm", key) not in self._known:
            self._known["lstm", key] = compute()
        return self._known["lstm", key]
