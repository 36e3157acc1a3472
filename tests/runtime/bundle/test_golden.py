"""Golden samples are read by the manifest's sizes, and whatever the archive says is held against them."""

from __future__ import annotations

import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.errors import BundleError

Relist = Callable[[Path], None]


def test_golden_samples_load_as_the_manifest_says(make_bundle: Callable[..., Path]) -> None:
    golden = load_golden(Bundle.open(make_bundle(carried=True, indexed=True)))
    assert golden["actions"].shape == (8, 1, 2)
    assert golden["h_in"].shape == (8, 1, 2)
    assert golden["stage_text"].dtype == np.float32
    assert golden["names"][0] == "frame 0"


def rewrite_golden(
    folder: Path, relist: Callable[[Path], None], change: Callable[[dict[str, Any]], object]
) -> None:
    with np.load(folder / "golden.npz") as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(folder / "golden.npz", **arrays)
    relist(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("actions"), "it lacks actions"),
        (lambda arrays: arrays.pop("names"), "it lacks names"),
        (lambda arrays: arrays.pop("stage_text"), "it lacks stage_text"),
        (lambda arrays: arrays.update(extra=np.zeros(8)), "it has an unknown array 'extra'"),
        (lambda arrays: arrays.update(actions=arrays["actions"].astype(np.float64)), "actions is float64"),
        (
            lambda arrays: arrays.update(actions=arrays["actions"][:4]),
            r"actions is float32 \[4, 1, 2\] instead of",
        ),
        (lambda arrays: arrays.update(input_ids=arrays["input_ids"][:, :3]), r"input_ids is int32 \[8, 3\]"),
        (lambda arrays: arrays.update(names=np.arange(8)), "names is int64"),
    ],
)
def test_golden_samples_that_do_not_fit_are_refused(
    tiny_bundle: Path, relist: Callable[[Path], None], change: Callable[[dict[str, Any]], object], words: str
) -> None:
    rewrite_golden(tiny_bundle, relist, change)
    with pytest.raises(BundleError, match=words):
        load_golden(Bundle.open(tiny_bundle))


class Explosive:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("exploded").touch, ())


def test_golden_samples_that_want_to_run_code_are_refused(
    tiny_bundle: Path, relist: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tiny_bundle / "golden.npz", names=np.array([Explosive()], dtype=object))
    relist(tiny_bundle)
    with pytest.raises(BundleError, match="cannot be read"):
        load_golden(Bundle.open(tiny_bundle))
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"junk" * 100, pickle.dumps(Explosive())])
def test_golden_samples_that_are_no_archive_are_refused(
    tiny_bundle: Path,
    relist: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tiny_bundle / "golden.npz").write_bytes(content)
    relist(tiny_bundle)
    with pytest.raises(BundleError, match=r"golden.npz cannot be read"):
        load_golden(Bundle.open(tiny_bundle))
    assert not Path("exploded").exists()


def refusal(folder: Path, relist: Relist, content: bytes) -> str:
    (folder / "golden.npz").write_bytes(content)
    relist(folder)
    with pytest.raises(BundleError) as raised:
        load_golden(Bundle.open(folder))
    assert "xport" in raised.value.hint
    return raised.value.problem


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "golden.npz") as archive:
        return dict(archive)


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return target.getvalue()


def npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


def with_header(text: str) -> bytes:
    """An array of NumPy's format whose header is this text."""
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


def test_arrays_in_fortran_order_are_the_same(tiny_bundle: Path, relist: Relist) -> None:
    arrays = arrays_of(tiny_bundle)
    turned = {name: np.asfortranarray(array) for name, array in arrays.items()}
    np.savez(tiny_bundle / "golden.npz", **turned)
    relist(tiny_bundle)
    for name, array in load_golden(Bundle.open(tiny_bundle)).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_an_archive_that_unpacks_to_more_is_refused(tiny_bundle: Path, relist: Relist) -> None:
    members = {f"{name}.npy": npy(array) for name, array in arrays_of(tiny_bundle).items()}
    members["stage_text.npy"] = bytes(64 << 20)
    assert "is compressed" in refusal(tiny_bundle, relist, archive(members, zipfile.ZIP_DEFLATED))


def test_more_samples_than_were_exported_are_refused(tiny_bundle: Path, relist: Relist) -> None:
    target = io.BytesIO()
    np.savez(target, **{name: np.repeat(array, 2, axis=0) for name, array in arrays_of(tiny_bundle).items()})
    assert "it has 16 samples, parity was measured on 8" in refusal(tiny_bundle, relist, target.getvalue())


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (8,), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (8,), }",
        "{'descr': '<f4', 'fortran_order': __import__('os').system('touch exploded'), 'shape': (8,), }",
        "[" * 900,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }" + " " * 5000,
        "'",
        "",
    ],
)
def test_a_header_of_another_form_is_refused_and_not_evaluated(
    tiny_bundle: Path, relist: Relist, header: str
) -> None:
    problem = refusal(tiny_bundle, relist, archive({"actions.npy": with_header(header)}))
    assert "'actions.npy' is no array of" in problem


@pytest.mark.parametrize("bytes_more", [-4, 4, 4096])
def test_an_array_with_more_or_fewer_bytes_than_its_shape_is_refused(
    tiny_bundle: Path, relist: Relist, bytes_more: int
) -> None:
    members = {f"{name}.npy": npy(array) for name, array in arrays_of(tiny_bundle).items()}
    actions = members["actions.npy"]
    members["actions.npy"] = actions[:bytes_more] if bytes_more < 0 else actions + bytes(bytes_more)
    problem = refusal(tiny_bundle, relist, archive(members))
    assert "which are not its shape's" in problem


def test_an_array_listed_twice_or_many_are_refused(tiny_bundle: Path, relist: Relist) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        file.writestr("actions.npy", npy(np.zeros((8, 1, 2), np.float32)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("actions.npy", b"")
    assert "listed twice" in refusal(tiny_bundle, relist, target.getvalue())
    many = archive({f"{at}.npy": b"" for at in range(65)})
    assert "its table lists 65 members" in refusal(tiny_bundle, relist, many)
    assert "'readme.txt' is no array" in refusal(tiny_bundle, relist, archive({"readme.txt": b""}))


def test_names_that_are_no_text_are_refused(tiny_bundle: Path, relist: Relist) -> None:
    members = {f"{name}.npy": npy(array) for name, array in arrays_of(tiny_bundle).items()}
    members["names.npy"] = members["names.npy"][:-4] + b"\xff\xff\xff\xff"
    assert "names holds what is no text" in refusal(tiny_bundle, relist, archive(members))


def test_damaged_archives_end_in_no_other_error(tiny_bundle: Path) -> None:
    sound = (tiny_bundle / "golden.npz").read_bytes()
    bundle = Bundle.open(tiny_bundle)
    rng = random.Random(11)
    interesting = [at for at in range(len(sound)) if sound[at : at + 2] in (b"PK", b"{'", b"\x93N")]
    refused = 0
    for _ in range(500):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 3)):
            at = (
                rng.choice(interesting) + rng.randrange(60)
                if rng.random() < 0.8
                else rng.randrange(len(data))
            )
            data[min(at, len(data) - 1)] = rng.randrange(256)
        (tiny_bundle / "golden.npz").write_bytes(data)
        try:
            load_golden(bundle)
        except BundleError:
            refused += 1
    assert refused > 300
