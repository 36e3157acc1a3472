"""A bundle appears whole or not at all, and an earlier one is replaced whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_edge.export.bundle import writer as bundle_writer
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.renaming import rename_new

# Publishes a copy of a bundle over another, and is killed by the rename or by the exchange.
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from vla_edge.export.bundle import writer as bundle_writer
from vla_edge.runtime.files import exchange
from vla_edge.runtime.bundle.bundle import Bundle

source, target, one_step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "one"
def die(*paths):
    os.kill(os.getpid(), signal.SIGKILL)
real, done = os.rename, []
def die_second(*paths):
    done.append(paths)
    real(*paths) if len(done) < 2 else die()
with bundle_writer.staging(target) as folder:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    bundle_writer.refuse_existing(target, True)
    if one_step:
        exchange._exchange_in_one_step = die
    else:
        exchange._exchange_in_one_step = lambda new, target: False
        bundle_writer.refuse_existing = lambda target, force: None
        os.rename = die_second
    bundle_writer.publish(folder, target, Bundle.open(source).manifest, force=True)
"""


@pytest.fixture
def target(tmp_path: Path, bundle_of: Callable[..., Path]) -> Path:
    return Path(shutil.copytree(bundle_of("pure"), tmp_path / "engines" / "policy-fp16"))


@pytest.fixture
def manifest(target: Path) -> Manifest:
    return Bundle.open(target).manifest


def publish(source: Path, target: Path, manifest: Manifest, force: bool = True) -> None:
    with bundle_writer.staging(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
        (folder / "new").touch()
        bundle_writer.publish(folder, target, manifest, force)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_bundle_replaces_another_and_leaves_nothing_beside_it(target: Path, manifest: Manifest) -> None:
    publish(target, target, manifest)
    assert (target / "new").exists()
    assert names(target.parent) == ["policy-fp16"]


def test_a_linked_bundle_is_replaced_by_a_folder_and_nothing_is_left(
    target: Path, manifest: Manifest, tmp_path: Path
) -> None:
    elsewhere = target.rename(tmp_path / "elsewhere")
    target.symlink_to(elsewhere)
    publish(elsewhere, target, manifest)
    assert not target.is_symlink()
    assert (target / "new").exists()
    assert not (elsewhere / "new").exists()
    assert names(target.parent) == ["policy-fp16"]


@pytest.mark.parametrize("points_to", ["nowhere", "policy-link"])
def test_a_link_to_nothing_is_in_the_way_and_is_not_replaced(tmp_path: Path, points_to: str) -> None:
    link = tmp_path / "policy-link"
    link.symlink_to(points_to)
    with pytest.raises(InputError, match="policy-link exists already"):
        bundle_writer.refuse_existing(link, force=False)
    with pytest.raises(InputError, match="is not a bundle, so --force does not replace it"):
        bundle_writer.refuse_existing(link, force=True)


def test_a_bundle_that_appears_meanwhile_is_not_replaced_without_force(
    target: Path, manifest: Manifest
) -> None:
    with pytest.raises(InputError, match="exists already"):
        publish(target, target, manifest, force=False)
    assert not (target / "new").exists()
    assert names(target.parent) == ["policy-fp16"]


@pytest.mark.parametrize("steps", ["one", "two"])
def test_a_kill_at_the_exchange_leaves_the_earlier_bundle_for_the_next_export(
    target: Path, tmp_path: Path, steps: str
) -> None:
    from vla_edge.runtime.files.exchange import recover

    source = shutil.copytree(target, tmp_path / "source")
    before = Bundle.open(target).manifest_sha256
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(target), steps], timeout=60, check=False
    )
    assert done.returncode == -9
    assert target.exists() == (steps == "one")
    assert len(list(recover(target.parent))) == (steps == "two")
    assert Bundle.open(target).manifest_sha256 == before
    with bundle_writer.staging(target):
        pass
    assert names(target.parent) == ["policy-fp16"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (18, "it lies in a lower layer of an overlay, such as a container's image"),
        (16, "another disk or folder is mounted there"),
        (1, "Operation not permitted"),
    ],
)
def test_a_bundle_that_cannot_be_replaced_is_refused_before_the_work(
    target: Path, number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*paths: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(InputError, match=f"policy-fp16 cannot be replaced: {words}") as refused:
        bundle_writer.refuse_existing(target, force=True)
    assert "--name" in refused.value.hint
    assert names(target.parent) == ["policy-fp16"]


@pytest.mark.parametrize("force", [False, True])
def test_an_export_that_loses_the_race_for_a_name_says_so(
    target: Path, manifest: Manifest, tmp_path: Path, force: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = tmp_path / "engines" / "late"

    def rename(source: Path, place: Path) -> None:
        if not late.exists():
            shutil.copytree(target, late)
        rename_new(source, place)

    monkeypatch.setattr(bundle_writer, "rename_new", rename)
    if force:
        publish(target, late, manifest)
    else:
        with pytest.raises(InputError, match="late exists already"):
            publish(target, late, manifest, force=False)
    assert (late / "new").exists() == force
    assert names(target.parent) == ["late", "policy-fp16"]


@pytest.mark.parametrize("kind", ["empty folder", "file", "dangling link"])
def test_what_came_while_the_bundle_was_written_is_not_replaced_unasked(
    target: Path, manifest: Manifest, kind: str
) -> None:
    late = target.with_name("late")
    with bundle_writer.staging(late) as folder:
        shutil.copytree(target, folder, dirs_exist_ok=True)
        if kind == "empty folder":
            late.mkdir()
        elif kind == "file":
            late.touch()
        else:
            late.symlink_to("nowhere")
        inode = late.lstat().st_ino
        with pytest.raises(InputError, match="late exists already"):
            bundle_writer.publish(folder, late, manifest, force=False)
    assert late.lstat().st_ino == inode
    assert names(target.parent) == ["late", "policy-fp16"]


# Publishes over a bundle as its owner who may not override permissions, and prints what is told.
AS_OWNER = """
import shutil, sys
from pathlib import Path
from vla_edge.export.bundle import writer as bundle_writer
from vla_edge.runtime.bundle.bundle import Bundle

source, target = Path(sys.argv[1]), Path(sys.argv[2])
with bundle_writer.staging(target) as folder:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    folder.chmod(0o755)
    (folder / "new").touch()
    print(bundle_writer.publish(folder, target, Bundle.open(source).manifest, force=True))
"""


@pytest.mark.parametrize("mode", [0o555, 0o500, 0o333])
def test_of_an_earlier_bundle_that_may_not_be_written_nothing_is_left(target: Path, mode: int) -> None:
    drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"]
    if os.getuid() != 0:
        drop = []
    elif subprocess.run([*drop, "true"], capture_output=True, check=False).returncode:
        pytest.skip("capabilities cannot be dropped here")
    earlier = Path(shutil.copytree(target, target.with_name("earlier-fp16")))
    for inner in ("plans", "plans/deeper"):
        (earlier / inner).mkdir()
        (earlier / inner / "file").touch()
    for inner in ("plans/deeper", "plans", ""):
        (earlier / inner).chmod(mode)
    arguments = [sys.executable, "-c", AS_OWNER, str(target), str(earlier)]
    done = subprocess.run([*drop, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
    assert (earlier / "new").exists()
    assert names(target.parent) == ["earlier-fp16", "policy-fp16"]


def test_an_earlier_bundle_that_cannot_be_removed_is_named(
    target: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, ignore_errors: None
    )  # another user's, in a shared folder
    with bundle_writer.staging(target) as folder:
        shutil.copytree(target, folder, dirs_exist_ok=True)
        said = bundle_writer.publish(folder, target, manifest, force=True)
    assert said == f"{folder}, the bundle that was replaced, could not be removed; delete it."
    assert folder.is_dir()
