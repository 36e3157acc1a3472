"""Plans in parts, really built by TensorRT-RTX: as many as are asked for, which compute what the whole does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
from known_layouts import LAYOUTS
from part_builds import FOUR, MIB, check_files
from plan_builds import ADA, left_in

from vla_edge.export.build.build import build_plan
from vla_edge.export.build.options import BuildOptions
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.record import WHOLE
from vla_edge.runtime.errors import InputError


@pytest.mark.parametrize(("layout", "clip"), LAYOUTS)
def test_every_layout_builds_in_parts(
    bundle_of: Callable[..., Path], tmp_path: Path, layout: str, clip: str
) -> None:
    shutil.copytree(bundle_of(layout, clip, "fp16"), tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    record = build_plan(bundle, replace(ADA, parts=3)).record
    assert len(record.parts) == 3
    check_files(bundle, record)
    made = {spec.name for spec in bundle.manifest.inputs}
    for part in record.parts:
        assert {spec.name for spec in part.inputs} <= made
        made |= {spec.name for spec in part.outputs}
        assert part.key is not None
        assert part.weights_sha256 is not None
        assert part.build.predicted_mib is not None
        assert part.build.peak_host_mib > 0
        assert part.contents.source == "plan"
    assert {spec.name for spec in bundle.manifest.outputs} <= made
    assert sum(part.weights_bytes or 0 for part in record.parts) > 0.9 * sum(
        entry.size_bytes for entry in bundle.manifest.files if entry.path == "model.onnx.data"
    )


def test_one_number_is_not_another(hybrid: Callable[..., Bundle]) -> None:
    bundle = hybrid()
    assert [part.name for part in build_plan(bundle, ADA).record.parts] == [WHOLE]
    four = build_plan(bundle, FOUR)
    assert four.fresh
    assert len(four.record.parts) == 4
    assert not four.path.exists()
    check_files(bundle, four.record)
    assert not build_plan(bundle, FOUR).fresh
    assert not build_plan(bundle, ADA).fresh  # "auto" takes what is there
    one = build_plan(bundle, replace(ADA, parts=1))
    assert one.fresh
    assert one.path.is_file()
    check_files(bundle, one.record)


def test_a_limit_chooses_parts(hybrid: Callable[..., Bundle], caplog: pytest.LogCaptureFixture) -> None:
    bundle = hybrid()
    assert len(build_plan(bundle, replace(ADA, memory_limit=200 * MIB)).record.parts) == 1
    record = build_plan(bundle, replace(ADA, memory_limit=131 * MIB, force=True)).record
    assert len(record.parts) >= 3
    small = build_plan(bundle, replace(ADA, memory_limit=1 * MIB, force=True)).record
    assert len(small.parts) > 1
    assert "may run out of memory" in caplog.text
    assert "a limit of 1 MiB" in caplog.text
    assert "more parts" not in caplog.text  # no number would fit
    caplog.clear()
    build_plan(bundle, replace(ADA, memory_limit=1 * MIB, force=True, ignore_memory=True))
    assert "limit of 1 MiB" not in caplog.text


@pytest.mark.parametrize("parts", [99, 65])
def test_too_many_parts_are_refused_with_what_can_be_had(hybrid: Callable[..., Bundle], parts: int) -> None:
    bundle = hybrid()
    with pytest.raises(InputError, match=f"cannot be cut into {parts} parts") as caught:
        build_plan(bundle, replace(ADA, parts=parts))
    assert "from 1 to" in caught.value.hint
    assert left_in(bundle) == []


def test_no_number_of_parts_is_below_one() -> None:
    with pytest.raises(InputError, match="0 parts cannot be built"):
        BuildOptions(parts=0)
    with pytest.raises(InputError, match="memory limit of 0 bytes"):
        BuildOptions(memory_limit=0)


def test_parts_compute_what_the_whole_does(hybrid: Callable[..., Bundle], tmp_path: Path) -> None:
    """The very files that were built from, run by ONNX Runtime one after the other."""
    bundle = hybrid()
    seen = tmp_path / "seen"
    seen.mkdir()
    import numpy as np

    from vla_edge.export.build.verify import sample_inputs
    from vla_edge.export.parts.graph import read_graph
    from vla_edge.export.parts.split import split, write_part
    from vla_edge.runtime.bundle.bundle import load_golden

    record = build_plan(bundle, FOUR).record
    values = dict(sample_inputs(bundle.manifest, load_golden(bundle), 0))
    wanted = onnxruntime.InferenceSession(bundle.model_path).run(None, dict(values))
    for part in split(read_graph(bundle), [part.name for part in record.parts[:-1]]):
        session = onnxruntime.InferenceSession(write_part(part, seen, bundle.folder / "model.onnx.data"))
        made = session.run(None, {spec.name: values[spec.name] for spec in part.inputs})
        values |= dict(zip([spec.name for spec in part.outputs], made, strict=True))
    outputs = [spec.name for spec in bundle.manifest.outputs]
    assert all(np.array_equal(values[name], right) for name, right in zip(outputs, wanted, strict=True))
