"""Nothing of a bundle is used before it was checked, and each refusal says what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vla_edge.runtime.bundle.bundle import Bundle, find_bundles
from vla_edge.runtime.engines.choice import unread_files
from vla_edge.runtime.errors import BundleError, InputError

Edit = Callable[..., None]
BOUNDED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def refusal(folder: Path, verify: Any = "full") -> BundleError:
    with pytest.raises(BundleError) as raised:
        Bundle.open(folder, verify)
    assert raised.value.hint
    return raised.value


def list_file(fields: dict[str, Any], path: str, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    fields["files"].append({"path": path, "size_bytes": len(content), "sha256": digest})


@pytest.mark.parametrize("verify", ["full", "size"])
def test_a_sound_bundle_opens(tiny_bundle: Path, verify: Any) -> None:
    bundle = Bundle.open(tiny_bundle, verify)
    digest = hashlib.sha256((tiny_bundle / "manifest.json").read_bytes()).hexdigest()
    assert bundle.manifest_sha256 == digest
    assert bundle.identity == f"tiny {digest[:12]}"
    assert bundle.model_path.is_file()
    assert bundle.has("golden.npz")
    assert not bundle.has("tokenizer.json")


def test_a_relative_path_stays_valid_after_changing_folder(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    bundle = Bundle.open("tiny")
    monkeypatch.chdir("/")
    assert bundle.model_path.is_file()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nothing")
    assert error.problem == f"{tmp_path / 'nothing'} does not exist."
    assert error.exit_code == 2


def test_a_missing_bundle_is_named_although_the_folder_around_it_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(BundleError, match="nothing does not exist"):
        Bundle.open(tmp_path / "nothing")


def test_a_file_is_not_a_bundle(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.touch()
    assert refusal(file).problem == f"{file} is not a folder."


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert "is not a bundle: it has no manifest.json" in error.problem
    assert "vla-export" in error.hint


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a/manifest.json"], "Give the bundle in it: {0}/a."),
        (["b/manifest.json", "a/manifest.json", "c.pth"], "Give one of the bundles in it: {0}/a, {0}/b."),
        (
            ["a.pth", "b c.pth"],
            "vla-inspect: {0}/a.pth, {0}/b c.pth. Export one: vla-export --ckpt {0}/a.pth",
        ),
        ([f"{at}.pt" for at in range(5)], "{0}/0.pt, {0}/1.pt, {0}/2.pt and 2 more. Export one"),
        (["readme.txt"], "Give a folder that vla-export wrote."),
    ],
    ids=str,
)
def test_a_folder_without_manifest_names_what_lies_there(
    tmp_path: Path, names: list[str], words: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert words.format(tmp_path) in refusal(tmp_path).hint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a b.pth", "vla-export --ckpt '{0}/a b.pth'"),
        ("policy.vla", "vla-bundle deploy {0}/policy.vla FOLDER"),
        ("readme.txt", "Give a folder that vla-export wrote."),
    ],
)
def test_a_file_in_place_of_a_bundle_is_told_by_its_kind(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).touch()
    assert words.format(tmp_path) in refusal(tmp_path / name).hint


@pytest.mark.parametrize("said", ["policy-cam", "polciy-cam-fp16"])
def test_a_bundle_s_name_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path, said: str) -> None:
    for name in ("policy-cam-fp16/manifest.json", "other/manifest.json", "policy-cam-notes/readme.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert refusal(tmp_path / said).hint == f"Did you mean {tmp_path / 'policy-cam-fp16'}?"


def test_an_interrupted_export_is_mentioned(tmp_path: Path) -> None:
    (tmp_path / ".hybrid.4711.partial").mkdir()
    error = refusal(tmp_path / "hybrid")
    assert "does not exist" in error.problem
    assert ".hybrid.4711.partial is left of an interrupted export" in error.hint


def test_a_partial_folder_itself_says_that_it_is_unfinished(tmp_path: Path) -> None:
    (tmp_path / "hybrid.partial").mkdir()
    assert "hybrid.partial is left of an interrupted export" in refusal(tmp_path / "hybrid.partial").hint


def test_an_unknown_schema_version_names_both_versions(tiny_bundle: Path, edit_manifest: Edit) -> None:
    edit_manifest(tiny_bundle, lambda fields: fields.update(schema_version=7))
    assert "has schema version 7; this runtime reads versions 1 to 2" in refusal(tiny_bundle).problem


def test_a_tampered_manifest_names_the_field(tiny_bundle: Path, edit_manifest: Edit) -> None:
    edit_manifest(tiny_bundle, lambda fields: fields["action"].update(limit=[-1.0, 1.0]))
    error = refusal(tiny_bundle)
    assert "$.action.limit[0]" in error.problem
    assert "export it again" in error.hint


def test_an_unknown_field_is_refused(tiny_bundle: Path, edit_manifest: Edit) -> None:
    edit_manifest(tiny_bundle, lambda fields: fields.update(run_this="rm"))
    assert "unknown field `run_this`" in refusal(tiny_bundle).problem


def test_a_truncated_manifest_is_refused(tiny_bundle: Path) -> None:
    path = tiny_bundle / "manifest.json"
    path.write_bytes(path.read_bytes()[:500])
    assert "is not JSON" in refusal(tiny_bundle).problem


def test_a_huge_manifest_is_not_read_to_its_end(tiny_bundle: Path) -> None:
    with (tiny_bundle / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    assert "a manifest at most" in refusal(tiny_bundle).problem


@pytest.mark.parametrize("verify", ["full", "size"])
def test_truncated_weights_are_refused_with_both_sizes(tiny_bundle: Path, verify: Any) -> None:
    path = tiny_bundle / "model.onnx.data"
    size = path.stat().st_size
    os.truncate(path, size - 1)
    error = refusal(tiny_bundle, verify)
    assert f"model.onnx.data is truncated: it has {size - 1} bytes, the manifest says {size}" in error.problem
    assert "copy it again" in error.hint


def test_a_file_that_grew_is_refused(tiny_bundle: Path) -> None:
    with (tiny_bundle / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert "model.onnx is too long" in refusal(tiny_bundle).problem


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "golden.npz"])
def test_one_flipped_bit_is_found_by_its_hash(tiny_bundle: Path, name: str) -> None:
    path = tiny_bundle / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    error = refusal(tiny_bundle)
    assert f"{name} was changed: its SHA-256 is {hashlib.sha256(data).hexdigest()}, not" in error.problem


@pytest.mark.parametrize(("backend", "found"), [("onnxruntime", True), ("tensorrt", False)])
def test_an_engine_hashes_what_it_reads_and_no_more(tiny_bundle: Path, backend: str, found: bool) -> None:
    data = bytearray((tiny_bundle / "model.onnx.data").read_bytes())
    data[0] ^= 1
    (tiny_bundle / "model.onnx.data").write_bytes(data)
    bundle = Bundle.open(tiny_bundle, "size")
    if found:
        with pytest.raises(BundleError, match=r"model\.onnx\.data was changed"):
            bundle.check_hashes(unread=unread_files(bundle, backend))
    else:
        bundle.check_hashes(unread=unread_files(bundle, backend))


def test_sizes_alone_do_not_find_a_flipped_bit(tiny_bundle: Path) -> None:
    path = tiny_bundle / "golden.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert Bundle.open(tiny_bundle, verify="size").manifest.name == "tiny"


def test_another_way_to_verify_is_wrong_use(tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="verify='none' is not known"):
        Bundle.open(tiny_bundle, "none")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "golden.npz"])
def test_a_missing_file_is_named(tiny_bundle: Path, name: str) -> None:
    (tiny_bundle / name).unlink()
    assert f"{name}, listed in the manifest, cannot be read: No such file" in refusal(tiny_bundle).problem


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "golden.npz"])
def test_a_file_that_the_manifest_does_not_list_is_not_trusted(
    tiny_bundle: Path, edit_manifest: Edit, name: str
) -> None:
    def unlist(fields: dict[str, Any]) -> None:
        fields["files"] = [entry for entry in fields["files"] if entry["path"] != name]

    edit_manifest(tiny_bundle, unlist)
    assert f"the manifest does not list {name}." in refusal(tiny_bundle).problem


def test_a_folder_in_place_of_a_file_is_refused(tiny_bundle: Path) -> None:
    (tiny_bundle / "golden.npz").unlink()
    (tiny_bundle / "golden.npz").mkdir()
    assert (
        "golden.npz, listed in the manifest, cannot be read: it is not a regular"
        in refusal(tiny_bundle).problem
    )


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../outside.bin", "a/../../outside.bin", "a\\..\\outside.bin", "C:outside.bin"],
)
def test_a_path_that_could_leave_the_folder_is_refused(
    tiny_bundle: Path, edit_manifest: Edit, path: str
) -> None:
    (tiny_bundle.parent / "outside.bin").write_bytes(b"secret")
    edit_manifest(tiny_bundle, lambda fields: list_file(fields, path, b"secret"))
    assert "not a plain path inside the bundle" in refusal(tiny_bundle).problem


@pytest.mark.parametrize("path", ["./model.onnx", "plans//x", "plans/", ".", "a\0b", "golden.npz/."])
def test_a_path_with_more_than_one_spelling_is_refused(
    tiny_bundle: Path, edit_manifest: Edit, path: str
) -> None:
    edit_manifest(tiny_bundle, lambda fields: list_file(fields, path, b"secret"))
    assert "not a plain path inside the bundle" in refusal(tiny_bundle).problem


def test_a_link_out_of_the_folder_is_refused(tiny_bundle: Path, edit_manifest: Edit) -> None:
    (tiny_bundle.parent / "outside.bin").write_bytes(b"secret")
    (tiny_bundle / "inside.bin").symlink_to("../outside.bin")
    edit_manifest(tiny_bundle, lambda fields: list_file(fields, "inside.bin", b"secret"))
    assert "inside.bin is a symbolic link" in refusal(tiny_bundle).problem


def test_a_linked_folder_out_of_the_bundle_is_refused(tiny_bundle: Path, edit_manifest: Edit) -> None:
    (tiny_bundle.parent / "outside.bin").write_bytes(b"secret")
    (tiny_bundle / "sub").symlink_to("..")
    edit_manifest(tiny_bundle, lambda fields: list_file(fields, "sub/outside.bin", b"secret"))
    assert "tiny/sub is a symbolic link" in refusal(tiny_bundle).problem


@pytest.mark.parametrize("names", [None, ("model.onnx",), ("model.onnx.data", "golden.npz")])
def test_a_bundle_in_a_cache_of_links_says_how_to_copy_it(
    tiny_bundle: Path, names: tuple[str, ...] | None
) -> None:
    blobs = tiny_bundle.parent / "blobs"
    blobs.mkdir()
    for name in names or [path.name for path in tiny_bundle.iterdir()]:
        (tiny_bundle / name).rename(blobs / name)
        (tiny_bundle / name).symlink_to(f"../blobs/{name}")
    error = refusal(tiny_bundle)
    assert "is a symbolic link, and a bundle's files must lie in it" in error.problem
    assert f"cp -rL {tiny_bundle} NEW" in error.hint
    assert "local_dir=" in error.hint


@pytest.mark.parametrize("verify", ["full", "size"])
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden.npz"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(
    tiny_bundle: Path, name: str, verify: Any
) -> None:
    (tiny_bundle / name).unlink()
    os.mkfifo(tiny_bundle / name)
    error = refusal(tiny_bundle, verify)
    assert f"{name}" in error.problem
    assert "it is not a regular file" in error.problem


def test_links_in_a_circle_are_refused(tiny_bundle: Path, edit_manifest: Edit) -> None:
    (tiny_bundle / "circle").symlink_to("circle")
    edit_manifest(tiny_bundle, lambda fields: list_file(fields, "circle", b""))
    refusal(tiny_bundle)


def test_a_bundle_reached_through_a_link_opens_and_stays_itself_when_the_link_is_turned(
    tiny_bundle: Path,
) -> None:
    link = tiny_bundle.parent / "current"
    link.symlink_to("tiny")
    assert Bundle.open(link).folder == tiny_bundle


PARTS = st.sampled_from(
    ["..", ".", "", "a", "tiny", "outside.bin", "sub", "~", "\\", "..\\", "C:", " ", "\0", "%2e%2e"]
)


@BOUNDED
@given(
    path=st.one_of(st.lists(PARTS, min_size=1, max_size=6).map("/".join), st.text(min_size=1, max_size=200))
)
def test_no_path_reaches_a_file_outside(
    tmp_path: Path, pristine_bundle: Path, edit_manifest: Edit, path: str
) -> None:
    folder = tmp_path / "tiny"
    if not folder.exists():
        shutil.copytree(pristine_bundle, folder)
        (folder / "sub").symlink_to("..")
        (tmp_path / "outside.bin").write_bytes(b"secret")
    before = (folder / "manifest.json").read_bytes()
    try:
        edit_manifest(folder, lambda fields: list_file(fields, path, b"secret"))
        refusal(folder)
    finally:
        (folder / "manifest.json").write_bytes(before)


def test_bundles_are_found_one_level_down_in_order(tiny_bundle: Path) -> None:
    root = tiny_bundle.parent
    shutil.copytree(tiny_bundle, root / "another")
    (root / "empty").mkdir()
    (root / "README.md").touch()
    assert find_bundles(root) == [root / "another", tiny_bundle]


def test_a_bundle_is_found_once_though_links_beside_it_lead_to_it(tiny_bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    tiny_bundle.rename(root / "tiny")
    elsewhere = shutil.copytree(root / "tiny", tmp_path / "elsewhere")
    (root / "current").symlink_to("tiny")
    (root / "linked").symlink_to(elsewhere)
    assert find_bundles(root) == [root / "linked", root / "tiny"]


def test_a_bundle_is_found_as_itself(tiny_bundle: Path) -> None:
    assert find_bundles(tiny_bundle) == [tiny_bundle]


@pytest.mark.parametrize("name", [".tiny.12.partial", "tiny.partial", ".hidden"])
def test_unfinished_folders_are_not_found(tiny_bundle: Path, name: str) -> None:
    shutil.copytree(tiny_bundle, tiny_bundle.parent / name)
    assert find_bundles(tiny_bundle.parent) == [tiny_bundle]


def test_looking_for_bundles_in_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="engines is not a folder"):
        find_bundles(tmp_path / "engines")


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("model.onnx.data", 900 << 30, "by the rest of the manifest it has at most 67108868"),
        ("golden.npz", 900 << 30, "golden.npz has 966367641600 bytes"),
        ("model.onnx", 1 << 30, "at most 67108864"),
        ("tokenizer.json", 1 << 40, "at most 33554432"),
    ],
)
def test_a_file_larger_than_it_can_need_is_not_hashed(
    tiny_bundle: Path, edit_manifest: Edit, name: str, size: int, words: str
) -> None:
    with (tiny_bundle / name).open("ab") as file:
        file.truncate(size)  # sparse

    def list_it(fields: dict[str, Any]) -> None:
        others = [entry for entry in fields["files"] if entry["path"] != name]
        fields["files"] = [*others, {"path": name, "size_bytes": size, "sha256": "0" * 64}]

    edit_manifest(tiny_bundle, list_it)
    assert words in refusal(tiny_bundle).problem


def test_a_file_that_nobody_listed_does_no_harm(tiny_bundle: Path) -> None:
    (tiny_bundle / ".DS_Store").touch()
    os.mkfifo(tiny_bundle / "pipe")
    assert Bundle.open(tiny_bundle).manifest.name == "tiny"


def test_the_manifest_is_valid_under_the_published_schema(pristine_bundle: Path) -> None:
    import jsonschema

    from vla_edge.runtime.bundle.manifest import json_schema

    jsonschema.validate(json.loads((pristine_bundle / "manifest.json").read_bytes()), json_schema())


@pytest.mark.parametrize("name", ["a\0", "\ud800", "a/\0b"])
def test_a_name_that_no_folder_can_have_is_no_bundle(name: str) -> None:
    with pytest.raises(BundleError, match="cannot be a file") as raised:
        Bundle.open(name)
    assert "Give a folder that vla-export wrote" in raised.value.hint


@pytest.mark.parametrize("folder", [None, 3, b"bundle"])
def test_what_is_no_path_is_wrong_use(folder: object) -> None:
    with pytest.raises(InputError, match="is no path"):
        Bundle.open(folder)
