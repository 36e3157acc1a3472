"""A robot's folder: the new policy is unpacked, proven, and only then the current one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from packed_files import edited_bundle, files_of, packed_file

from vla_edge.export.deploy.deploy import Deployment, DeployOptions, deploy, roll_back
from vla_edge.export.deploy.listing import list_root
from vla_edge.export.deploy.root import deployed_in, folder_name
from vla_edge.export.packed.packed import open_packed
from vla_edge.runtime import Policy
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import BundleError, EngineError, InputError, ParityError, ResourceError, VlaError
from vla_edge.runtime.files.staging import claimed

Files = tuple[Path, Path, Path]
QUICK = DeployOptions("onnxruntime", build=False)


def deployed(file: Path, root: Path, options: DeployOptions = QUICK) -> Deployment:
    with open_packed(file) as packed:
        return deploy(packed, root, options)


def current(root: Path) -> str:
    """The name of the current policy, every hash compared."""
    return Bundle.open(root / "current").manifest.name


def names(root: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[0] or path.name for path in root.iterdir())


class TestSwitching:
    def test_a_policy_is_proven_on_its_engine_and_then_current(self, files: Files, tmp_path: Path) -> None:
        done = deployed(files[0], tmp_path / "root", DeployOptions("onnxruntime"))
        assert done.verification is not None
        assert done.verification.passed
        assert "onnxruntime" in done.verification.engine
        assert current(tmp_path / "root") == "policy-a"
        assert os.readlink(tmp_path / "root" / "current") == done.folder.name
        assert done.previous is None

    def test_an_update_takes_from_the_root_what_it_leaves_out(self, files: Files, tmp_path: Path) -> None:
        deployed(files[0], tmp_path)
        done = deployed(files[1], tmp_path)
        assert done.origins is not None
        assert done.origins.linked > done.origins.file
        assert current(tmp_path) == "policy-b"

    def test_an_update_finds_its_base_though_another_policy_is_current(
        self, files: Files, tmp_path: Path
    ) -> None:
        deployed(files[0], tmp_path)
        deployed(files[2], tmp_path)
        deployed(files[1], tmp_path)
        assert current(tmp_path) == "policy-b"

    def test_back_and_forward_along_a_chain(self, files: Files, tmp_path: Path) -> None:
        options = DeployOptions("onnxruntime", build=False, keep=3)
        first = deployed(files[0], tmp_path, options).folder
        deployed(files[1], tmp_path, options)
        deployed(files[2], tmp_path, options)
        seen = []
        for to in (None, None, None, first.name, None):
            roll_back(tmp_path, to)
            seen.append(current(tmp_path))
        assert seen == ["policy-b", "policy-c", "policy-b", "policy-a", "policy-b"]

    def test_back_where_two_names_cannot_be_exchanged_in_one_step(
        self, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deployed(files[0], tmp_path)
        deployed(files[1], tmp_path)
        monkeypatch.setattr("vla_edge.export.deploy.root.swap", lambda one, other: False)  # as FAT answers
        seen = []
        for _ in range(2):
            roll_back(tmp_path)
            seen.append(current(tmp_path))
        assert seen == ["policy-a", "policy-b"]

    def test_the_same_again_changes_no_link(self, files: Files, tmp_path: Path) -> None:
        deployed(files[0], tmp_path)
        deployed(files[1], tmp_path)
        done = deployed(files[1], tmp_path)
        assert done.origins is None
        assert done.previous is not None
        assert Bundle.unchecked(done.previous).manifest.name == "policy-a"

    def test_older_ones_go_and_what_was_not_deployed_stays(self, files: Files, tmp_path: Path) -> None:
        first = deployed(files[0], tmp_path).folder
        shutil.copytree(first, tmp_path / "mine")
        shutil.copytree(first, tmp_path / "mine-0123456789ab")  # named like one, and is none
        deployed(files[1], tmp_path)
        assert [path.name for path in deployed(files[2], tmp_path).removed] == [first.name]
        assert names(tmp_path) == ["current", "mine", "mine", "policy-b", "policy-c", "previous"]

    def test_as_many_stay_as_were_asked_for(self, files: Files, tmp_path: Path) -> None:
        for file in files:
            deployed(file, tmp_path, DeployOptions("onnxruntime", build=False, keep=3))
        assert names(tmp_path) == ["current", "policy-a", "policy-b", "policy-c", "previous"]

    @pytest.mark.parametrize("counted", [True, False])
    def test_the_latest_stay_though_the_clock_began_anew(
        self, files: Files, tmp_path: Path, counted: bool
    ) -> None:
        """A board without a battery starts in the same year again and again."""
        options = DeployOptions("onnxruntime", build=False, keep=4)
        for days, file in zip((300, 200, 100), files, strict=True):
            folder = deployed(file, tmp_path, options).folder
            if not counted:  # from before deploys had numbers: then the clock is all there is
                record = folder / "plans" / "deployed.json"
                known = json.loads(record.read_bytes())
                del known["number"]
                record.write_text(json.dumps(known))
            os.utime(folder / "plans", (days * 86400, days * 86400))
        found = [Bundle.unchecked(folder).manifest.name for folder in deployed_in(tmp_path)]
        assert found == [f"policy-{name}" for name in ("cba" if counted else "abc")]
        deployed(files[0], tmp_path, options)  # the same again is the latest
        assert Bundle.unchecked(deployed_in(tmp_path)[0]).manifest.name == "policy-a"

    def test_an_older_one_that_cannot_be_removed_does_not_undo_the_switch(
        self, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = deployed(files[0], tmp_path).folder
        deployed(files[1], tmp_path)
        rename = os.rename

        def refused(source: Path, target: Path) -> None:
            if source == first:
                raise PermissionError(errno.EPERM, "Operation not permitted", str(source))
            rename(source, target)

        monkeypatch.setattr(os, "rename", refused)
        assert deployed(files[2], tmp_path).removed == ()
        assert current(tmp_path) == "policy-c"
        assert f"{first} could not be removed (Operation not permitted); delete it." in caplog.text

    def test_a_link_that_was_made_by_hand_is_the_previous_one(self, files: Files, tmp_path: Path) -> None:
        shutil.copytree(files[0].with_suffix(""), tmp_path / "by-hand")
        (tmp_path / "current").symlink_to("by-hand")
        done = deployed(files[1], tmp_path)
        assert done.previous == tmp_path / "by-hand"
        roll_back(tmp_path)
        assert current(tmp_path) == "policy-a"

    def test_links_that_were_made_by_hand_keep_what_they_lead_to(self, files: Files, tmp_path: Path) -> None:
        root = tmp_path / "root"
        first = deployed(files[0], root).folder
        (root / "current").unlink()
        (root / "mine").symlink_to(first.absolute())
        (root / "current").symlink_to("mine")
        (root / "previous").symlink_to(first.absolute())
        deployed(files[1], root)
        assert os.readlink(root / "previous") == first.name
        roll_back(root)
        assert current(root) == "policy-a"
        (root / "current").unlink()
        (root / "current").symlink_to(shutil.copytree(first, tmp_path / "elsewhere"))
        assert deployed(files[2], root).previous == tmp_path / "elsewhere"

    def test_a_relative_root_is_no_different(
        self, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for file in files:
            deployed(file, Path("root"))
        assert names(Path("root")) == ["current", "policy-b", "policy-c", "previous"]
        roll_back(Path("root"))
        assert current(Path("root")) == "policy-b"

    def test_a_policy_that_runs_from_the_link_goes_on(self, files: Files, tmp_path: Path) -> None:
        deployed(files[0], tmp_path)
        frame = np.full((40, 60, 3), 90, np.uint8)
        with Policy.load(tmp_path / "current", "onnxruntime") as policy:
            before = policy.act(frame).values
            deployed(files[1], tmp_path)
            deployed(files[2], tmp_path)  # which removes the one that runs
            policy.reset()
            assert policy.act(frame).values == before
            assert policy.manifest.name == "policy-a"

    def test_everything_is_on_the_disk_before_the_link_turns(
        self, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []
        sync, replace = os.fsync, os.replace

        def synced(descriptor: int) -> None:
            sync(descriptor)
            told.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

        def replaced(source: Path, target: Path) -> None:
            replace(source, target)
            told.append(f"-> {Path(target).name}")

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", replaced)
        done = deployed(files[0], tmp_path / "root")
        turned = told.index("-> current")
        kept = {*files_of(done.folder), done.folder.name}
        assert kept <= set(told[:turned])
        assert "root" in told[:turned]
        assert told[turned + 1] == "root"


class TestFailing:
    """Whatever fails, the one that runs stays."""

    @pytest.fixture
    def root(self, files: Files, tmp_path: Path) -> Path:
        deployed(files[0], tmp_path / "root")
        return tmp_path / "root"

    def stays(self, root: Path) -> None:
        assert current(root) == "policy-a"
        assert list(root.rglob(".*")) == []

    def test_a_policy_that_misses_its_gate(self, files: Files, root: Path, tmp_path: Path) -> None:
        bad = edited_bundle(files[0].with_suffix(""), tmp_path / "bad", [(3000, b"\x11" * 3000)], "bad")
        file = packed_file(bad, tmp_path / "bad.vla")
        with pytest.raises(ParityError, match="differs from the PyTorch FP32 policy by more than"):
            deployed(file, root, DeployOptions("onnxruntime"))
        self.stays(root)
        deployed(files[1], root)  # and what it left goes with the next
        deployed(files[2], root)
        assert names(root) == ["current", "policy-b", "policy-c", "previous"]

    def test_no_tensorrt_or_no_gpu(self, files: Files, root: Path) -> None:
        for backend in ("tensorrt", "tensorrt-rtx"):
            with pytest.raises(EngineError):
                deployed(files[1], root, DeployOptions(backend))
        self.stays(root)

    def test_a_damaged_file(self, files: Files, root: Path, tmp_path: Path) -> None:
        data = bytearray(files[2].read_bytes())
        data[-1] ^= 1
        (tmp_path / "c.vla").write_bytes(data)
        with pytest.raises(BundleError, match=r"c\.vla is damaged \d+ bytes from its start"):
            deployed(tmp_path / "c.vla", root)
        self.stays(root)

    def test_a_damaged_file_of_a_bundle_that_is_there(self, files: Files, root: Path, tmp_path: Path) -> None:
        data = bytearray(files[0].read_bytes())
        data[-1] ^= 1
        (tmp_path / "a.vla").write_bytes(data)
        with pytest.raises(BundleError, match=r"a\.vla is damaged \d+ bytes from its start"):
            deployed(tmp_path / "a.vla", root)
        self.stays(root)

    def test_a_disk_for_the_bundle_but_not_for_its_plan(
        self, files: Files, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vla_edge.export.deploy.deploy.require_engine", lambda *arguments: None)
        free = type("Usage", (), {"free": 32 << 20})
        monkeypatch.setattr("vla_edge.export.packed.room.shutil.disk_usage", lambda path: free)
        with pytest.raises(ResourceError, match="for the bundle and its plan"):
            deployed(files[2], root, DeployOptions("tensorrt"))
        self.stays(root)
        assert not list(root.glob("policy-c*"))
        deployed(files[2], root)

    def test_a_base_that_is_not_there(self, files: Files, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="leaves out what policy-a"):
            deployed(files[1], tmp_path / "root")
        assert list((tmp_path / "root").iterdir()) == []

    def test_a_full_disk(self, files: Files, small_disk: object) -> None:
        place: Path = small_disk(9000)  # type: ignore[operator]
        deployed(files[0], place / "root")
        (place / "filled").write_bytes(bytes(900_000))
        with pytest.raises(ResourceError, match="Not enough disk"):
            deployed(files[2], place / "root")
        self.stays(place / "root")

    def test_another_at_work(self, files: Files, root: Path) -> None:
        with claimed(root), pytest.raises(VlaError, match=r"another vla-bundle is at work in .*root"):
            deployed(files[1], root)
        with claimed(root), pytest.raises(VlaError, match="another vla-bundle"):
            roll_back(root)
        self.stays(root)

    def test_a_damaged_one_is_not_gone_back_to(self, files: Files, root: Path) -> None:
        deployed(files[1], root)
        weights = root / "previous" / "golden.npz"
        data = bytearray(weights.read_bytes())
        weights.unlink()  # it may be a hard link
        data[100] ^= 1
        weights.write_bytes(data)
        with pytest.raises(BundleError, match=r"golden\.npz was changed"):
            roll_back(root)
        assert current(root) == "policy-b"
        deployed(files[0], root)  # unpacks it again
        assert current(root) == "policy-a"

    def test_a_damaged_current_one_is_not_touched_under_a_running_policy(
        self, files: Files, root: Path
    ) -> None:
        (root / "current" / "golden.npz").unlink()
        with pytest.raises(BundleError, match="the current bundle is damaged") as caught:
            deployed(files[0], root)
        assert "vla-bundle rollback" in caught.value.hint

    def test_nothing_to_go_back_to(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no other bundle to go back to"):
            roll_back(root)
        name = os.readlink(root / "current")
        with pytest.raises(InputError, match=f"{name} is the current bundle of .* already"):
            roll_back(root, name)
        with pytest.raises(InputError, match="x was not deployed in"):
            roll_back(root, "x")
        with pytest.raises(InputError, match="absent is not a folder"):
            roll_back(tmp_path / "absent")

    def test_a_root_that_is_none(self, files: Files, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a bundle itself"):
            deployed(files[0], files[0].with_suffix(""))
        (tmp_path / "root" / "current").mkdir(parents=True)
        with pytest.raises(InputError, match="current is no link"):
            deployed(files[0], tmp_path / "root")


class TestNames:
    @pytest.mark.parametrize(
        "name", ["current", "한국어 정책", ".hidden", "a" * 199, "가" * 190, "-x; rm", "x-0123456789ab"]
    )
    def test_a_name_of_a_stranger_is_a_plain_folder(self, files: Files, tmp_path: Path, name: str) -> None:
        bundle = edited_bundle(files[0].with_suffix(""), tmp_path / "bundle", [], name)
        done = deployed(packed_file(bundle, tmp_path / "x.vla"), tmp_path / "root")
        assert done.folder.parent == tmp_path / "root"
        assert len(os.fsencode(done.folder.name)) < 200
        assert current(tmp_path / "root") == name
        assert not done.folder.name.startswith((".", "-"))

    @pytest.mark.parametrize("name", ["../../x", "/etc", "..", "", "a/b", "\n", "\0", "\ud800"])
    def test_whatever_the_name_is(self, name: str) -> None:
        assert Path(folder_name(name, "0" * 64)).name == folder_name(name, "0" * 64)
        assert folder_name(name, "0" * 64).isprintable()


class TestList:
    def test_it_tells_links_sizes_and_what_was_proven(self, files: Files, tmp_path: Path) -> None:
        deployed(files[0], tmp_path, DeployOptions("onnxruntime"))
        deployed(files[1], tmp_path)
        one, other = list_root(tmp_path)
        assert (one.links, other.links) == (("current",), ("previous",))
        assert one.size_bytes > 50_000
        assert one.record is not None
        assert one.record.verification is None
        assert other.record is not None
        assert other.record.verification is not None

    def test_a_record_of_another_bundle_proves_nothing(self, files: Files, tmp_path: Path) -> None:
        folder = deployed(files[0], tmp_path, DeployOptions("onnxruntime")).folder
        path = folder / "plans" / "deployed.json"
        record = json.loads(path.read_bytes())
        path.write_text(json.dumps(record | {"manifest_sha256": "0" * 64}))
        assert list_root(tmp_path)[0].record is None
        path.write_bytes(b"[" * 100_000)
        assert list_root(tmp_path)[0].record is None

    def test_damage_is_told(self, files: Files, tmp_path: Path) -> None:
        folder = deployed(files[0], tmp_path).folder
        (folder / "golden.npz").unlink()
        assert "golden.npz" in list_root(tmp_path)[0].problem
