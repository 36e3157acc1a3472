"""What was packed comes out, whatever the target had; a new head is a small file."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packed_files import edited_bundle, files_of, packed_file, unpacked

from vla_edge.export.packed.pack import require_output
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import InputError, ResourceError

EDITS = st.lists(st.tuples(st.integers(0, 1 << 30), st.binary(min_size=1, max_size=3000)), max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, since=st.sampled_from(["nothing", "bundle", "file", "manifest", "lone manifest"]))
def test_whatever_changed_what_was_packed_comes_out(
    first: Path, whole: Path, tmp_path: Path, edits: list[tuple[int, bytes]], since: str
) -> None:
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    changed = edited_bundle(first, tmp_path / "changed", edits)
    alone = tmp_path / "alone" / "manifest.json"
    alone.parent.mkdir()
    shutil.copy(first / "manifest.json", alone)
    known = {
        "nothing": None,
        "bundle": first,
        "file": whole,
        "manifest": first / "manifest.json",
        "lone manifest": alone,
    }
    file = packed_file(changed, tmp_path / "x.vla", known[since])
    unpacked(file, tmp_path / "out", *([first] if known[since] else []))
    assert files_of(tmp_path / "out") == files_of(changed)


def test_plans_stay_behind(first: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(first, tmp_path / "bundle")
    (bundle / "plans").mkdir()
    (bundle / "plans" / "x.plan").write_bytes(b"x")
    unpacked(packed_file(bundle, tmp_path / "x.vla"), tmp_path / "out")
    assert not (tmp_path / "out" / "plans").exists()
    Bundle.open(tmp_path / "out")


def test_a_few_changed_weights_are_a_small_file(
    update: Path, whole: Path, tmp_path: Path, first: Path
) -> None:
    assert update.stat().st_size < whole.stat().st_size / 2
    origins = unpacked(update, tmp_path / "out", first)
    assert origins.file < origins.base + origins.linked


def test_a_new_head_on_the_same_backbones_is_a_small_file(
    bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    from vla_edge.export.kosmos2.sample.samples import sample_of
    from vla_edge.export.kosmos2.sample.tokenizer import write_tokenizer
    from vla_edge.export.pipeline import ExportOptions, export_bundle
    from vla_edge.export.sample.sample import write_sample

    sample = replace(sample_of("hybrid-a"), trained_seed=5)
    write_sample(tmp_path / "new.pth", sample)
    write_tokenizer(tmp_path / "tokenizer")
    new = export_bundle(ExportOptions(tmp_path / "new.pth", tmp_path / "engines", ("fp16",)))[0].folder
    old = bundle_of("hybrid-a", "transformers")
    file = packed_file(new, tmp_path / "update.vla", old)
    trained_bytes = sum(2 * math.prod(sample.shapes[name]) for name in sample.trained)
    whole_bytes = sum(path.stat().st_size for path in new.iterdir() if path.is_file())
    assert file.stat().st_size < trained_bytes < whole_bytes / 5
    unpacked(file, tmp_path / "out", old)
    assert files_of(tmp_path / "out") == files_of(new)


def test_an_inventory_of_one_s_own_bundle_is_enough_to_leave_out(
    first: Path, second: Path, update: Path, tmp_path: Path
) -> None:
    have = packed_file(first, tmp_path / "have.vla", first)
    assert have.stat().st_size < 20_000
    assert packed_file(second, tmp_path / "x.vla", have).read_bytes() == update.read_bytes()


def test_equal_files_are_hard_links(first: Path, update: Path, tmp_path: Path) -> None:
    base = shutil.copytree(first, tmp_path / "base")
    origins = unpacked(update, tmp_path / "out", base)
    assert (tmp_path / "out" / "golden.npz").samefile(base / "golden.npz")
    assert not (tmp_path / "out" / "model.onnx.data").samefile(base / "model.onnx.data")
    assert origins.linked == sum((base / name).stat().st_size for name in ("golden.npz", "model.onnx"))


def test_a_damaged_base_gives_only_what_is_right(
    first: Path, update: Path, tmp_path: Path, second: Path
) -> None:
    bad = edited_bundle(first, tmp_path / "bad", [])
    data = bytearray((bad / "golden.npz").read_bytes())
    data[1000] ^= 1
    (bad / "golden.npz").write_bytes(data)
    unpacked(update, tmp_path / "out", bad, first)
    assert files_of(tmp_path / "out") == files_of(second)


def test_what_is_there_is_not_replaced(whole: Path, first: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="out exists already"):
        unpacked(whole, tmp_path / "out")
    with pytest.raises(InputError, match="exists already"):
        require_output(whole, force=False)
    with pytest.raises(InputError, match="is a folder"):
        require_output(tmp_path, force=True)


def test_a_damaged_bundle_is_not_packed(first: Path, tmp_path: Path) -> None:
    bad = shutil.copytree(first, tmp_path / "bad")
    data = bytearray((bad / "model.onnx.data").read_bytes())
    data[-1] ^= 1
    (bad / "model.onnx.data").write_bytes(data)
    with pytest.raises(InputError, match=r"model\.onnx\.data is not what the manifest says"):
        packed_file(bad, tmp_path / "x.vla")
    assert list(tmp_path.glob("*.vla*")) == []


def test_the_disk_is_asked_first(whole: Path, first: Path, small_disk: Callable[[int], Path]) -> None:
    place = small_disk(200)
    with pytest.raises(ResourceError, match=r"Not enough disk at .* for the bundle: \d+ MiB needed"):
        unpacked(whole, place / "out")
    with pytest.raises(ResourceError, match=r"Not enough disk at .* for x\.vla"):
        packed_file(first, place / "x.vla")
    assert list(place.iterdir()) == []
