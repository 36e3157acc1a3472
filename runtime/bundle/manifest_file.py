"""Reading `manifest.json`: it is input from outside, and may be of an earlier schema version."""

from __future__ import annotations

import reprlib
from typing import Any

import msgspec

from vla_edge.runtime.errors import BundleError

from . import manifest_v1
from .manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SCHEMA_VERSION, Manifest
from .manifest_checks import contradictions


def decode(data: bytes, origin: str = MANIFEST_NAME) -> Manifest:
    """Validate the bytes of a manifest, of this schema version or of one before it.

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
    try:
        if version == 1:
            manifest = manifest_v1.decode(data)
        elif version == SCHEMA_VERSION:
            manifest = msgspec.json.decode(data, type=Manifest)
        else:
            raise BundleError(
                f"{origin} has schema version {reprlib.repr(version)}; "
                f"this runtime reads versions 1 to {SCHEMA_VERSION}.",
                "Export the checkpoint again with this version of vla-edge, "
                "or install the version that wrote the bundle.",
            )
    except (msgspec.ValidationError, RecursionError) as error:
        raise BundleError(
            f"{origin} is not a valid manifest: {error}.", "It was damaged or edited; export it again."
        ) from error
    _check_consistency(manifest, origin)
    return manifest


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
