"""What cannot be read or written is named with what to do before any work, by every command alike."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_process import run
from PIL import Image

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.writable import refuse_unwritable

WITHOUT_RIGHTS = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"]


@pytest.fixture
def user() -> list[str]:
    """What a command begins with, so that permissions hold for it."""
    if os.getuid() != 0:
        return []
    if subprocess.run([*WITHOUT_RIGHTS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("capabilities cannot be dropped here")
    return WITHOUT_RIGHTS


@pytest.fixture
def engines(tmp_path: Path, bundle_of: Callable[..., Path]) -> Iterator[Path]:
    folder = tmp_path / "engines"
    for name in ("a", "b", "c"):
        shutil.copytree(bundle_of("pure"), folder / name)
        shutil.rmtree(folder / name / "plans", ignore_errors=True)
    Image.effect_noise((32, 32), 50).convert("RGB").save(tmp_path / "frame.png")
    yield folder
    for name in ("a", "b", "c"):
        (folder / name).chmod(0o755)


def test_a_folder_that_must_not_be_looked_into_is_one_bad_row(engines: Path, user: list[str]) -> None:
    (engines / "b").chmod(0)
    done = run(["vla-inspect", str(engines)], prefix=user)
    assert done.returncode == 1
    assert "3 bundles" in done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert "ONNX Runtime" in rows["a"]
    assert "ONNX Runtime" in rows["c"]
    assert rows["b"].split() == ["b", "damaged"]
    assert f"damaged: {engines / 'b' / 'manifest.json'} cannot be read: Permission denied." in done.stdout


@pytest.mark.parametrize("name", ["model.onnx.data", "model.onnx", "golden.npz"])
def test_a_file_that_cannot_be_read_is_damage_for_all_commands(
    engines: Path, user: list[str], tmp_path: Path, name: str
) -> None:
    (engines / "a" / name).chmod(0)
    shown = run(["vla-inspect", str(engines / "a")], prefix=user)
    assert shown.returncode == 1
    assert f"{name} cannot be read: Permission denied." in shown.stdout
    assert "damaged: no engine takes it" in shown.stdout
    built = run(["vla-build", str(engines / "a")], prefix=user)
    assert built.returncode == 2
    assert f"{name} cannot be read: Permission denied.\nCheck its permissions.\n" in built.stderr


def test_results_for_a_folder_that_is_not_writable_are_refused_before_any_work(
    engines: Path, user: list[str], tmp_path: Path
) -> None:
    (engines / "b").chmod(0o555)
    arguments = [
        "vla-run",
        str(engines / "a"),
        str(tmp_path / "frame.png"),
        "-o",
        str(engines / "b" / "a.csv"),
    ]
    done = run(arguments, prefix=user)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: the folder {engines / 'b'} is not writable.\n"
        "Change its permissions, or write elsewhere with -o.\n"
    )


@pytest.mark.parametrize("within", ["", "plans"])
def test_a_plan_for_a_bundle_that_is_not_writable_is_refused(
    engines: Path, user: list[str], within: str
) -> None:
    pytest.importorskip("tensorrt_rtx")
    place = engines / "b" / within
    place.mkdir(exist_ok=True)
    place.chmod(0o555)
    done = run(["vla-build", str(engines / "b"), "--backend", "tensorrt-rtx", "--sm", "89"], prefix=user)
    place.chmod(0o755)
    assert done.returncode == 2
    assert done.stderr.endswith(
        f"error: the folder {place} is not writable.\n"
        "Change its permissions, or copy the bundle to where you may write.\n"
    )


def test_a_file_where_a_folder_is_wanted_is_named(tmp_path: Path) -> None:
    (tmp_path / "plans").write_text("a file")
    with pytest.raises(InputError, match="plans is not a folder, so nothing") as raised:
        refuse_unwritable(tmp_path / "plans", "copy the bundle")
    assert raised.value.hint == "Copy the bundle."
