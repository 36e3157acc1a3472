"""Plans are refused by their side file, size, header and hash, each in its own words, before anything loads."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_bundles import flattened, make_plan, plan_bytes, small_bundle

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import (
    PlanFile,
    find_plan,
    open_part,
    read_record,
    require_verified,
)
from vla_edge.runtime.engines.tensorrt.plan_header import read_header
from vla_edge.runtime.engines.tensorrt.plan_names import part_path, plans_in, record_path
from vla_edge.runtime.engines.tensorrt.record import Machine, SampleError
from vla_edge.runtime.errors import EngineError

RTX = Machine(backend="tensorrt-rtx", version="1.2.0", sm=89, gpu="Ada", driver="CUDA 12.6")
KEPT = Path(__file__).parents[2] / "bundle" / "kept"
ORIN = Machine(backend="tensorrt", version="10.6.0", sm=87, gpu="Orin", driver="CUDA 12.6")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "bundle")


def load(bundle: Bundle, machine: Machine = ORIN) -> bytes:
    plan = find_plan(bundle, machine)
    require_verified(plan)
    with open_part(plan, plan.record.parts[0]) as image:
        return bytes(image)


def refusal(bundle: Bundle, machine: Machine = ORIN) -> str:
    with pytest.raises(EngineError) as caught:
        load(bundle, machine)
    assert f"vla-build {bundle.folder}" in caught.value.hint or "--verify" in caught.value.hint
    return caught.value.problem


def edit_record(plan: Path, **changes: object) -> None:
    record = json.loads(record_path(plan).read_text())
    for key, value in changes.items():
        place = record
        *parents, last = key.split("__")
        for parent in parents:
            place = place[int(parent) if parent.isdigit() else parent]
        place[last] = value
    record_path(plan).write_text(json.dumps(record))


def test_a_good_plan_loads(bundle: Bundle) -> None:
    plan = make_plan(bundle)
    assert load(bundle) == plan.read_bytes()


def test_no_plan_at_all(bundle: Bundle) -> None:
    assert "has no plan for tensorrt 10.6.0 on SM 8.7: it has none yet" in refusal(bundle)


def test_a_plan_of_another_version_or_gpu_is_named(bundle: Bundle) -> None:
    make_plan(bundle, version="10.3.0")
    make_plan(bundle, sm=90)
    problem = refusal(bundle)
    assert "tensorrt-10.3.0-sm87.plan, tensorrt-10.6.0-sm90.plan" in problem


def test_a_rejected_plan_is_named(bundle: Bundle) -> None:
    plan = make_plan(bundle)
    plan.rename(plan.with_name(plan.name + ".rejected"))
    assert "tensorrt-10.6.0-sm87.plan.rejected, which missed its gates" in refusal(bundle)


def test_a_side_file_of_another_sm(bundle: Bundle) -> None:
    edit_record(make_plan(bundle), machine__sm=90, machine__gpu="NVIDIA H200")
    assert "was built for SM 9.0 (NVIDIA H200); this GPU has SM 8.7 (Orin)" in refusal(bundle)


def test_a_side_file_of_another_tensorrt(bundle: Bundle) -> None:
    edit_record(make_plan(bundle), machine__version="10.3.0")
    assert "was built by TensorRT 10.3.0; this machine runs 10.6.0" in refusal(bundle)


def test_a_side_file_of_another_backend(bundle: Bundle) -> None:
    edit_record(make_plan(bundle), machine__backend="tensorrt-rtx")
    assert "is a plan of tensorrt-rtx, not of tensorrt" in refusal(bundle)


def test_a_header_of_another_tensorrt(bundle: Bundle) -> None:
    make_plan(bundle, data=plan_bytes((10, 3, 0, 30)))
    assert "has the header of TensorRT 10.3.0.30, but its side file says 10.6.0" in refusal(bundle)


def test_a_header_that_is_not_known_is_left_to_the_side_file(bundle: Bundle) -> None:
    plan = make_plan(bundle, data=plan_bytes((10, 3, 0, 30), tag=b"what"))
    assert load(bundle) == plan.read_bytes()


def test_no_side_file(bundle: Bundle) -> None:
    record_path(make_plan(bundle)).unlink()
    assert "has no side file tensorrt-10.6.0-sm87.plan.json: its build did not end" in refusal(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"record_version": 2}', "\xff", "[" * 100_000])
def test_a_damaged_side_file(bundle: Bundle, text: str) -> None:
    record_path(make_plan(bundle)).write_text(text, encoding="latin-1")
    assert "is not a valid side file" in refusal(bundle)


def test_a_truncated_plan(bundle: Bundle) -> None:
    plan = make_plan(bundle)
    plan.write_bytes(plan.read_bytes()[:-1])
    assert "is truncated: 4095 bytes, its side file says 4096" in refusal(bundle)


def test_an_empty_plan(bundle: Bundle) -> None:
    make_plan(bundle).write_bytes(b"")
    assert "is truncated: 0 bytes" in refusal(bundle)


def test_a_longer_plan(bundle: Bundle) -> None:
    plan = make_plan(bundle)
    plan.write_bytes(plan.read_bytes() + b"x")
    assert "is longer than it was" in refusal(bundle)


def test_another_model_in_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    plan = make_plan(bundle)
    edit_record(plan, model=[{"path": "model.onnx", "size_bytes": 1, "sha256": "0" * 64}])
    assert "was built from another model than" in refusal(bundle)


def test_another_manifest_in_the_bundle(bundle: Bundle) -> None:
    edit_record(make_plan(bundle), manifest_sha256="0" * 64)
    assert "when the manifest was another one (000000000000, now" in refusal(bundle)


def test_a_plan_that_missed_its_gates(bundle: Bundle) -> None:
    make_plan(bundle, passed=False)
    assert "missed its gates: a note." in refusal(bundle)


def test_a_plan_that_was_never_checked(bundle: Bundle) -> None:
    make_plan(bundle, passed=None)
    with pytest.raises(EngineError) as caught:
        load(bundle)
    assert "was never checked against the golden samples: a note." in caught.value.problem
    assert caught.value.hint == f"Check it on this machine: vla-build --verify {bundle.folder}"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(28, 4095), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(bundle: Bundle, position: int, bit: int) -> None:
    plan = make_plan(bundle)
    data = bytearray(plan.read_bytes())
    data[position] ^= 1 << bit
    plan.write_bytes(data)
    assert "was changed since it was built" in refusal(bundle)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_no_bytes_of_a_side_file_raise_anything_else(bundle: Bundle, data: bytes) -> None:
    plan = make_plan(bundle)
    record_path(plan).write_bytes(data)
    with pytest.raises(EngineError, match="is not a valid side file"):
        read_record(plan, bundle.folder)


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_a_header_is_read_or_left_alone(data: bytes) -> None:
    header = read_header(data)
    assert header is None or data[:4] in (b"ftrt", b"vtrt")


@pytest.mark.parametrize(
    ("version", "same"),
    [
        ("10.6.0", True),
        ("10.6.0.26", True),
        ("10.6.0.post1", True),
        ("10.6", True),
        ("10.60.0", False),
        ("10.3.0", False),
    ],
)
def test_a_header_is_compared_by_major_minor_and_patch(version: str, same: bool) -> None:
    header = read_header(plan_bytes((10, 6, 0, 26)))
    assert header is not None
    assert header.is_version(version) is same


def test_every_chunk_is_checked(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plan_bundles.CHUNK_BYTES", 1000)
    monkeypatch.setattr("vla_edge.runtime.engines.tensorrt.plan.CHUNK_BYTES", 1000)
    plan = make_plan(bundle)
    record = read_record(plan, bundle.folder)
    assert len(record.parts[0].chunk_sha256) == 5
    assert load(bundle) == plan.read_bytes()
    with open_part(PlanFile(plan, record, bundle.folder), record.parts[0]):
        pass


def test_chunks_that_do_not_cover_the_plan_are_refused_before_any_is_hashed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_record(make_plan(bundle), parts__0__chunk_bytes=1)
    monkeypatch.delattr("vla_edge.runtime.engines.tensorrt.plan.hashlib.sha256")
    assert "has 1 hashes for 4096 chunks of 1 bytes" in refusal(bundle)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda plan: plan.unlink(),
        lambda plan: record_path(plan).unlink(),
        lambda plan: plan.write_bytes(b""),
        lambda plan: edit_record(plan, machine__sm=90),
        lambda plan: edit_record(plan, machine__backend="tensorrt"),
        lambda plan: edit_record(plan, verification__passed=False),
        lambda plan: edit_record(plan, verification__passed=None),
    ],
)
def test_what_to_run_names_the_backend_where_it_is_not_the_default(
    bundle: Bundle, break_it: Callable[[Path], object]
) -> None:
    break_it(make_plan(bundle, backend="tensorrt-rtx", version="1.2.0", sm=89))
    with pytest.raises(EngineError) as caught:
        load(bundle, RTX)
    assert caught.value.hint.endswith(f"{bundle.folder} --backend tensorrt-rtx")


def test_what_to_run_names_the_backend_of_the_machine_not_of_a_foreign_plan(bundle: Bundle) -> None:
    edit_record(make_plan(bundle), machine__backend="tensorrt-rtx")
    with pytest.raises(EngineError) as caught:
        load(bundle)
    assert caught.value.hint.endswith(f"vla-build {bundle.folder}")


@pytest.mark.parametrize("of", [Path, record_path], ids=["plan", "side file"])
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_only_regular_files_are_opened_and_a_pipe_is_not_waited_for(
    bundle: Bundle, of: Callable[[Path], Path], kind: str
) -> None:
    plan = make_plan(bundle)
    found = find_plan(bundle, ORIN)
    path = of(plan)
    path.rename(elsewhere := path.with_name("elsewhere"))
    {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: path.symlink_to(elsewhere)}[kind](path)

    def read() -> None:
        read_record(plan, bundle.folder)
        with open_part(found, found.record.parts[0]):
            pass

    with pytest.raises(EngineError, match=r"cannot be read: it is (a symbolic link|not a regular file)"):
        read()


class TestSideFilesOfVersion1:
    """Written before units stood in them: all errors of actions were in m/s."""

    def before(self, plan: Path) -> dict[str, Any]:
        """Rewrite a plan's side file as version 1 wrote it, with a gate and a sample."""
        fields = flattened(json.loads(record_path(plan).read_text()), 1)
        found = fields["verification"]
        found["samples"] = [{"name": "a", "max_abs_mps": 0.01, "relative_l2": None}]
        found["checks"] = [
            {"stage": stage, "metric": metric, "limit": 0.02, "measured": 0.01, "passed": True}
            for stage, metric in (("text", "relative_l2"), ("action", "max_abs_mps"))
        ]
        record_path(plan).write_text(json.dumps(fields))
        return cast("dict[str, Any]", fields)

    def test_its_plan_loads_and_its_errors_keep_their_unit(self, bundle: Bundle) -> None:
        plan = make_plan(bundle)
        self.before(plan)
        assert load(bundle) == plan.read_bytes()
        found = read_record(plan, bundle.folder).verification
        assert [(check.stage, check.metric, check.unit) for check in found.checks] == [
            ("text", "relative_l2", "relative"),
            ("action", "max_abs", "m/s"),
        ]
        assert found.samples == (SampleError(name="a", max_abs=0.01, relative_l2=None),)

    def test_a_field_of_another_version_is_refused(self, bundle: Bundle) -> None:
        plan = make_plan(bundle)
        fields = self.before(plan)
        fields["verification"]["checks"][0]["unit"] = "m/s"
        record_path(plan).write_text(json.dumps(fields))
        assert "unknown field `unit`" in refusal(bundle)

    def test_a_kept_one_loads(self, tmp_path: Path) -> None:
        plan = tmp_path / "tensorrt-rtx-1.7.1.116-sm89.plan"
        shutil.copy(KEPT / "pure-fp16.plan.json", record_path(plan))
        record = read_record(plan, tmp_path)
        assert (record.record_version, record.machine.sm, record.verification.passed) == (3, 89, None)

    def test_one_of_version_2_says_the_same_as_the_present_one(self, bundle: Bundle) -> None:
        plan = make_plan(bundle)
        now = read_record(plan, bundle.folder)
        fields = flattened(json.loads(record_path(plan).read_text()), 2)
        record_path(plan).write_text(json.dumps(fields))
        assert read_record(plan, bundle.folder) == now
        assert load(bundle) == plan.read_bytes()


class TestPlansInParts:
    """Of a plan in parts there is a side file and a file for each part, and none of the plan's own name."""

    def in_parts(self, bundle: Bundle) -> Path:
        plan = make_plan(bundle)
        record = json.loads(record_path(plan).read_text())
        first = record["parts"][0]
        files = [part_path(plan, name, key * 64) for name, key in (("vision", "a"), ("actions", "b"))]
        record["parts"] = [
            {**first, "name": file.name.split(".")[-3], "file": file.name, "key": "a" * 64} for file in files
        ]
        for file in files:
            shutil.copy(plan, file)
        plan.unlink()
        record_path(plan).write_text(json.dumps(record))
        return plan

    def test_it_is_found_and_each_part_is_opened(self, bundle: Bundle) -> None:
        plan = self.in_parts(bundle)
        assert plans_in(bundle.folder) == [plan.name]
        found = find_plan(bundle, ORIN)
        assert [found.file(part).name for part in found.record.parts] == [
            "tensorrt-10.6.0-sm87.vision.aaaaaaaaaaaa.part",
            "tensorrt-10.6.0-sm87.actions.bbbbbbbbbbbb.part",
        ]
        for part in found.record.parts:
            with open_part(found, part) as image:
                assert len(image) == part.size_bytes

    def test_a_part_that_is_gone_or_changed_is_named(self, bundle: Bundle) -> None:
        self.in_parts(bundle)
        found = find_plan(bundle, ORIN)
        first, second = found.record.parts
        found.file(first).unlink()
        found.file(second).write_bytes(bytes(second.size_bytes))
        with (
            pytest.raises(EngineError, match=r"vision\.aaaaaaaaaaaa\.part cannot be read"),
            open_part(found, first),
        ):
            pass
        with (
            pytest.raises(EngineError, match=r"actions\.bbbbbbbbbbbb\.part was changed"),
            open_part(found, second),
        ):
            pass

    def test_a_side_file_without_any_file_of_its_plan_is_no_plan(self, bundle: Bundle) -> None:
        make_plan(bundle).unlink()
        assert plans_in(bundle.folder) == []

    @pytest.mark.parametrize("file", ["../manifest.json", "/etc/passwd", ".hidden", "a/b", "", "a\0b", "a\n"])
    def test_a_part_elsewhere_is_refused(self, bundle: Bundle, file: str) -> None:
        plan = self.in_parts(bundle)
        edit_record(plan, parts__0__file=file)
        assert "is not a valid side file" in refusal(bundle)

    @pytest.mark.parametrize("parts", [[], None, [{}]])
    def test_no_parts_at_all_are_refused(self, bundle: Bundle, parts: object) -> None:
        edit_record(self.in_parts(bundle), parts=parts)
        assert "is not a valid side file" in refusal(bundle)
