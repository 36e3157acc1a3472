"""A camera is a part of its own: whoever changes it builds that part, and takes the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from part_builds import check_files, no_builds
from plan_builds import ADA, left_in

from vla_edge.export.build.build import build_plan
from vla_edge.export.parts.choice import choose, most_parts
from vla_edge.export.parts.graph import read_graph
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Camera, Channels
from vla_edge.runtime.engines.tensorrt.record import WHOLE, PlanRecord

Seeing = Callable[[int, int, str], Bundle]
WIDE, UPRIGHT = (72, 128, "rgb"), (60, 44, "bgr")


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[..., Path]
) -> Callable[[Camera], Path]:
    """Exports the hybrid with a camera, once; the plain one is of the same checkpoint."""
    made: dict[Camera, Path] = {}

    def export(camera: Camera) -> Path:
        if camera not in made:
            checkpoint = checkpoint_of("hybrid-a", "transformers")
            options = ExportOptions(checkpoint, tmp_path_factory.mktemp("cameras"), ("fp16",), camera=camera)
            made[camera] = export_bundle(options)[0].folder
        return made[camera]

    return export


@pytest.fixture
def seeing(exported: Callable[[Camera], Path], tmp_path: Path, each_part_once: None) -> Seeing:
    """Gives a bundle with a camera beside those of `hybrid`."""

    def make(height: int, width: int, channels: Channels) -> Bundle:
        folder = tmp_path / "engines" / f"camera-{height}x{width}-{channels}"
        shutil.copytree(exported(Camera(height=height, width=width, channels=channels)), folder)
        return Bundle.open(folder)

    return make


def names(record: PlanRecord) -> list[str]:
    return [part.name for part in record.parts]


def test_a_camera_is_a_part_beside_as_many_as_are_asked_for(
    seeing: Seeing, with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(True)
    bundle = seeing(*WIDE)
    record = build_plan(bundle, replace(ADA, parts=1)).record
    assert names(record) == ["camera", "actions"]
    assert [spec.dtype for spec in record.parts[0].inputs] == ["uint8"]
    assert [spec.name for spec in record.parts[0].outputs] == ["pixel_values"]
    assert all(part.build.predicted_mib for part in record.parts)
    check_files(bundle, record)
    for number in ("auto", 1):
        assert not build_plan(bundle, replace(ADA, parts=number)).fresh
    record = build_plan(bundle, replace(ADA, parts=3)).record
    assert len(record.parts) == 4
    assert names(record)[0] == "camera"
    check_files(bundle, record)


@pytest.mark.parametrize("number", [1, 4])
def test_another_camera_builds_its_own_part_alone(
    number: int, seeing: Seeing, with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    first, second = seeing(*WIDE), seeing(*UPRIGHT)
    one = build_plan(first, replace(ADA, parts=number)).record
    built = no_builds(monkeypatch)
    other = build_plan(second, ADA).record  # "auto": as the first is cut
    assert built == ["camera"]
    assert names(other) == names(one)
    assert [part.build.found_in for part in other.parts[1:]] == [first.manifest.name] * number
    assert [part.sha256 for part in other.parts[1:]] == [part.sha256 for part in one.parts[1:]]


@pytest.mark.parametrize("number", [1, 3])
def test_a_camera_is_put_before_the_plan_of_a_plain_bundle(
    number: int,
    hybrid: Callable[..., Bundle],
    seeing: Seeing,
    with_gpu: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_gpu(True)
    plain, bundle = hybrid("plain"), seeing(*WIDE)
    build_plan(plain, replace(ADA, parts=number))
    built = no_builds(monkeypatch)
    result = build_plan(bundle, ADA)
    assert built == ["camera"]
    assert len(result.record.parts) == number + 1
    assert set(result.origins.values()) == {"found in plain"}
    check_files(bundle, result.record)


def test_a_plain_bundle_takes_what_follows_a_camera_as_its_whole(
    hybrid: Callable[..., Bundle],
    seeing: Seeing,
    with_gpu: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_gpu(True)
    bundle, plain = seeing(*WIDE), hybrid("plain")
    rest = build_plan(bundle, ADA).record.parts[1]
    built = no_builds(monkeypatch)
    result = build_plan(plain, ADA)
    assert built == []
    (whole,) = result.record.parts
    assert (whole.name, whole.key, whole.inputs) == (WHOLE, rest.key, ())
    assert left_in(plain) == [result.path.name, f"{result.path.name}.json"]
    assert result.path.samefile(bundle.folder / "plans" / rest.file)


def test_a_graph_is_cut_in_the_same_places_with_a_camera_and_without(
    hybrid: Callable[..., Bundle], seeing: Seeing
) -> None:
    plain, graph = read_graph(hybrid("plain")), read_graph(seeing(*WIDE))
    assert most_parts(graph) == most_parts(plain)
    for number in ("auto", *range(1, most_parts(plain) + 1)):
        for limit in (None, 0, plain.between(())[0].weights_bytes // 2):
            wanted, found = (choose(each, number, limit, lambda weights: weights) for each in (plain, graph))
            assert found.boundaries == ("camera", *wanted.boundaries)
            assert found.weights_bytes[1:] == wanted.weights_bytes
