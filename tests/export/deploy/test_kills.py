"""Fifty kills at random steps of a deploy: `current` is always whole, and the next deploy cleans up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from killed_deploys import in_a_fork
from packed_files import edited_bundle, packed_file

from vla_edge.export.deploy.root import opened_root, switch
from vla_edge.export.packed.packed import open_packed
from vla_edge.export.packed.unpack import unpack

SCRIPT = Path(__file__).parents[2] / "support" / "killed_deploys.py"


def test_whenever_a_deploy_is_killed_current_is_whole(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, _, c = files
    with open_packed(a) as packed:
        unpack(packed, tmp_path / "d")
    whole = packed_file(edited_bundle(tmp_path / "d", tmp_path / "e", [], "policy-d"), tmp_path / "d.vla")
    # three whole ones, of which two stay: each is unpacked again, and an older one removed
    command = [sys.executable, SCRIPT, tmp_path / "root", "7", "50", a, whole, c]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    result = json.loads(done.stdout)
    assert result["findings"] == []
    assert len(set(result["moments"])) > 20
    assert result["with_leftovers"] > 5  # kills came while something was half done,
    assert 0 < result["switched"] < 25  # and after the switch


def test_whenever_a_switch_is_killed_the_way_back_stays(tmp_path: Path) -> None:
    """After c was to follow b, which followed a: either nothing was done, or it leads back to b."""
    before = tmp_path / "before"
    for name in "abc":
        (before / name).mkdir(parents=True)
    (before / "previous").symlink_to("a")
    (before / "current").symlink_to("b")
    root, seen = tmp_path / "root", []

    def work() -> None:
        switch(root, root / "c")

    for moment in range(1, 200):
        shutil.copytree(before, root, symlinks=True)
        status, _ = in_a_fork(work, moment)
        with opened_root(root):
            seen.append((os.readlink(root / "current"), os.readlink(root / "previous")))
        assert sorted(path.name for path in root.glob("[!.]*")) == ["a", "b", "c", "current", "previous"]
        assert not os.path.lexists(root / ".previous.next")
        shutil.rmtree(root)
        if status != signal.SIGKILL:
            break
    assert status == 0
    assert list(dict.fromkeys(seen)) == [("b", "a"), ("c", "b")]
