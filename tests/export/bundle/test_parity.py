"""A finished bundle is measured only where its graph can be trusted and has the stages of its manifest."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import pytest
from plan_bundles import write_bundle

from vla_edge.export.bundle.parity import measure_bundle
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import BundleError, EngineError


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "link.bin"])
def test_a_graph_that_reads_elsewhere_is_not_measured(tmp_path: Path, location: str) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 20))
    (bundle.folder / "link.bin").symlink_to("../secret.bin")
    model = onnx.load(bundle.model_path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    bundle.model_path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=f"takes its data from '{location}'"):
        measure_bundle(bundle)


def test_a_stage_that_the_graph_does_not_have_is_named(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    first, *others = bundle.manifest.stages
    stages = (msgspec.structs.replace(first, tensor="nowhere"), *others)
    manifest = msgspec.structs.replace(bundle.manifest, stages=stages)
    with pytest.raises(EngineError, match=r"with the stages nowhere, text"):
        measure_bundle(Bundle(bundle.folder, manifest, bundle.manifest_sha256))
