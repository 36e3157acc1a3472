"""What a part is by its content, so that equal parts of several bundles are found to be equal.

The key covers all that a builder sees and that can change what it makes: operators with their attributes, dtypes,
shapes, the data of each weight and constant, names of inputs and outputs. It does not cover how values inside are
named and numbered, where in which data file a weight lies, descriptions, or what wrote the file: a pure policy and
a hybrid one number their constants differently, and share their backbone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.files.regular_file import open_regular
from vla_edge.runtime.process.cores import usable_cores

from .graph import Graph
from .onnx_reading import Initialiser
from .split import PartGraph

KEY_VERSION = 1  # of what is hashed below; a key of another version equals none
Span = tuple[int, int]  # offset and length in the data file

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class PartKey:
    """What a part is.

    Attributes:
        content_sha256: of its graph, its weights, and its inputs and outputs.
        weights_sha256: of its weights and constants alone, in the order of use.
    """

    content_sha256: str
    weights_sha256: str


class WeightHashes:
    """SHA-256 of each weight of a data file, each hashed once, whatever number of parts asks.

    Args:
        graph: whose weights.
        weights: its data file.
        advance: called with numbers of bytes hashed.

    Raises:
        BundleError: the data file is no regular file, or too short.
    """

    def __init__(
        self, graph: Graph, weights: Path, advance: Callable[[int], None] = lambda size_bytes: None
    ) -> None:
        tensors = graph.file.initialisers.values()
        spans = {(tensor.offset, tensor.size_bytes) for tensor in tensors if tensor.offset is not None}
        self._digests = _hashed(weights, spans, advance)

    def of(self, tensor: Initialiser) -> str:
        """Hash of a tensor's dtype, shape and data; not of its name."""
        digest = None if tensor.offset is None else self._digests[tensor.offset, tensor.size_bytes]
        return _sha256((digest, tensor.meaning))


def key_of(part: PartGraph, hashes: WeightHashes) -> PartKey:
    """The key of a part.

    Args:
        part: of the graph that `hashes` was made for.
        hashes: of its weights.
    """
    weights = [hashes.of(tensor) for tensor in part.initialisers]
    ends = {spec.name for spec in (*part.inputs, *part.outputs)}
    known = {
        tensor.name: ("weight", digest) for tensor, digest in zip(part.initialisers, weights, strict=True)
    }
    known |= {name: ("border", name) for name in ends} | {"": ("none", "")}
    nodes = []
    for at, node in enumerate(part.nodes):
        known |= {
            name: ("inner", f"{at}.{place}")
            for place, name in enumerate(node.outputs)
            if name and name not in ends
        }
        values = [[known[name] for name in names] for names in (node.inputs, node.outputs)]
        nodes.append((node.meaning, values))
    content = (KEY_VERSION, part.versions, part.inputs, part.outputs, nodes)
    return PartKey(_sha256(content), _sha256((KEY_VERSION, weights)))


def _sha256(value: object) -> str:
    """Of plain values: msgpack writes lengths, so that two values never share their bytes."""
    return hashlib.sha256(msgspec.msgpack.encode(value)).hexdigest()


def _hashed(path: Path, spans: Iterable[Span], advance: Callable[[int], None]) -> dict[Span, str]:
    """Hash spans of a file, several at a time, the largest first; it is read and not mapped.

    A mapped file that another process cuts short ends this one by a signal; reading in pieces of 1 MiB is as fast.
    """
    ordered = sorted(spans, key=lambda span: (-span[1], span[0]))
    try:
        with open_regular(path) as file, ThreadPoolExecutor(max_workers=usable_cores()) as pool:

            def hashed(span: Span) -> str:
                digest, (at, left) = hashlib.sha256(), span
                while left:
                    piece = os.pread(file.fileno(), min(left, _READ_BYTES), at)
                    if not piece:
                        raise BundleError(
                            f"{path} is too short for the graph beside it: its weights go to byte {at + left}.",
                            "Copy the bundle again, or export it again.",
                        )
                    digest.update(piece)
                    at, left = at + len(piece), left - len(piece)
                advance(span[1])
                return digest.hexdigest()

            return dict(zip(ordered, pool.map(hashed, ordered), strict=True))
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
