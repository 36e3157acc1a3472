"""One file of what the backbones gave: named by all that it depends on, believed only where it is of the right form."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_edge.runtime.files.cache_file import CacheFile

_log = logging.getLogger(__name__)

_FORMAT = 3  # 1 computed each prompt by itself, and so rounded otherwise; 2 did not tell Pillow's version

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class KeptFile:
    """Outputs of one run over the frames of an episode.

    Attributes:
        file: where they are kept, behind their hash.
        frames: of the episode, the rows of each output.
    """

    file: CacheFile
    frames: int

    @staticmethod
    def of(folder: Path, parts: Sequence[str], made_by: str, frames: int) -> KeptFile:
        """The file of a folder that is for these alone.

        Args:
            folder: of the cache.
            parts: what the outputs depend on.
            made_by: what computed them: a search on another device or version has files of its own.
            frames: see above.
        """
        key = hashlib.sha256(json.dumps([_FORMAT, made_by, *parts]).encode()).hexdigest()
        return KeptFile(CacheFile(folder / f"{key}.features", "feature cache", made_by), frames)

    def read(self) -> Arrays:
        """Outputs by name, float32 [frames, width]; empty where there are none, or where they are of another form.

        A hash shows damage. Who may write the folder can make up one that is right, so nothing is unpacked, and every
        size is checked against the bytes that are there.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        content = self.file.read()
        if not content:
            return {}
        try:
            found = load(content)
        except (SafetensorError, KeyError, ValueError) as error:
            _log.warning("the feature cache %s is of another form: %s", self.file.path, error)
            return {}
        fits = (each.dtype == np.float32 and each.ndim == 2 for each in found.values())
        if not all(fits) or any(len(each) != self.frames for each in found.values()):
            _log.warning("the feature cache %s holds other outputs; it is made anew", self.file.path)
            return {}
        return dict(found)

    def write(self, found: Arrays) -> bool:
        """Replace what is kept; tells whether it is there now."""
        from safetensors.numpy import save

        return self.file.write(save({name: np.ascontiguousarray(each) for name, each in found.items()}))


def computed_by(device: str) -> str:
    """What computes on a device of torch: packages whose next version may round otherwise, as Pillow 13 does."""
    import PIL
    import torch
    import transformers

    kind = torch.device(device).type
    rounded = " in TF32" if kind == "cuda" and torch.backends.cudnn.allow_tf32 else ""
    packages = f"torch {torch.__version__}, transformers {transformers.__version__}, Pillow {PIL.__version__}"
    return f"{packages}, on {kind}{rounded}"
