"""What an export can be asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_edge.export.bundle.names import bundle_stem
from vla_edge.export.family import PromptRequest

if TYPE_CHECKING:
    from vla_edge.export.bundle.samples.recorded import RecordedSamples
    from vla_edge.runtime.bundle.manifest import Camera


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
        keep_vocabulary, prompt_length: see `vla-export --help`.
        batch: frames a call.
        gates: `STAGE=LIMIT` texts.
        camera: whose frames the graph is to take as they are; None: it takes prepared pixels.
        images: folder with frames for golden samples; None takes the packaged ones.
        episodes: recordings to take golden samples from, in place of `images`.
        force: replace existing bundles.
        ignore_memory: do not warn of little memory.
        weights: key of the state dict to take, such as "ema_state_dict"; None takes the usual one.
        family: name of the family of policies that the checkpoint is of; None asks all.
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
    camera: Camera | None = None
    images: Path | None = None
    episodes: RecordedSamples | None = None
    force: bool = False
    ignore_memory: bool = False
    weights: str | None = None
    family: str | None = None

    @property
    def about_text(self) -> PromptRequest:
        return PromptRequest(
            self.checkpoint, self.tokenizer, self.explicit_ids, self.keep_vocabulary, self.prompt_length
        )

    def target(self, precision: str) -> Path:
        return self.output / f"{bundle_stem(self.checkpoint, self.name)}-{precision}"
