"""What `Policy` and `BatchPolicy` share: a bundle checked, and opened in an engine for one thread."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vla_edge.runtime.bundle.bundle import Bundle, Verification, require_known
from vla_edge.runtime.bundle.graph_check import PIXELS, check_graph
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.engines.choice import open_session, unread_files
from vla_edge.runtime.engines.session import Session
from vla_edge.runtime.process.exclusive_use import ExclusiveUse


def open_checked(
    folder: str | os.PathLike[str],
    backend: str,
    verify: Verification,
    options: Mapping[str, Any],
    batch: int | None = 1,
) -> tuple[Bundle, Session]:
    """Open a bundle, check it, and load it into an engine; `Policy.load` tells arguments and errors."""
    require_known(verify)
    bundle = Bundle.open(folder, "size")
    check_graph(bundle.manifest, batch)
    if verify == "full":
        bundle.check_hashes(unread=unread_files(bundle, backend))
    return bundle, open_session(bundle, backend, **options)


def one_at_a_time(kind: str) -> ExclusiveUse:
    """The turn of a policy whose engine's buffers belong to one call at a time; `kind` is its class."""
    return ExclusiveUse(
        busy=(
            "this policy is in use by another thread.",
            "Give each thread its own policy, or take turns with a lock.",
        ),
        closed=("this policy is closed.", f"Load it again with {kind}.load."),
    )


def frames_at_a_time(manifest: Manifest) -> int:
    """The batch of a bundle: the first axis of its pixels; 1 where it takes none, which `check_graph` refuses."""
    return next((tensor.shape[0] for tensor in manifest.inputs if tensor.name == PIXELS and tensor.shape), 1)
