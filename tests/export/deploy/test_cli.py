"""`vla-bundle` as a user gives it: words, JSON, exit codes, signals."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_process import run

Files = tuple[Path, Path, Path]


def told(*arguments: object, code: int = 0) -> tuple[str, str]:
    done = run(["vla-bundle", *map(str, arguments)])
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    return done.stdout, done.stderr


def told_json(*arguments: object) -> Any:
    return json.loads(told(*arguments, "--json")[0])


def test_a_policy_goes_through_all_commands(files: Files, tmp_path: Path) -> None:
    bundle = files[0].with_suffix("")
    packed = told_json("pack", bundle, "-o", tmp_path / "a.vla")
    assert packed["size_bytes"] == (tmp_path / "a.vla").stat().st_size
    assert (tmp_path / "a.vla").read_bytes() == files[0].read_bytes()
    unpacked = told_json("unpack", tmp_path / "a.vla", tmp_path / "a")
    assert unpacked["bytes"]["file"] == packed["bundle_bytes"]
    root = tmp_path / "root"
    first = told_json("deploy", tmp_path / "a.vla", root, "--backend", "onnxruntime")
    assert first["verification"]["passed"] is True
    second = told_json("deploy", files[1], root, "--no-build")
    assert second["previous"] == first["folder"]
    assert told_json("rollback", root) == {"folder": first["folder"]}
    listed = told_json("list", root)["bundles"]
    assert [each["links"] for each in listed] == [["current"], ["previous"]]


def test_people_are_told_what_was_done(files: Files, tmp_path: Path) -> None:
    out, err = told("pack", files[1].with_suffix(""), "-o", tmp_path / "b.vla", "--since", files[0])
    assert "for a target that has policy-a" in out
    assert err.splitlines() == [f"reading {files[0]}", f"hashing {files[1].with_suffix('')}", "writing b.vla"]
    told("deploy", files[0], tmp_path / "root", "--backend", "onnxruntime")
    out, _ = told("deploy", tmp_path / "b.vla", tmp_path / "root", "--no-build")
    assert out.startswith("NOT checked: no golden sample was run here\n")
    again, _ = told("deploy", files[0], tmp_path / "root", "--no-build")
    assert re.match(r"NOT checked now; 20\S+Z: checked: action within", again)
    assert "shared with bundles here (hard links)" in out
    assert "previous: policy-a-" in out
    out, _ = told("list", tmp_path / "root")
    assert re.search(r"^policy-a-[0-9a-f]{12}  \S+ MiB  current$", out, re.MULTILINE)
    assert "checked: action within" in out
    assert "NOT checked" in out


def test_wrong_use_is_told_with_code_2(files: Files, tmp_path: Path) -> None:
    for arguments, words in (
        (("pack", tmp_path, "-o", tmp_path / "x"), "is not a bundle"),
        (("pack", files[0].with_suffix(""), "-o", files[1]), "exists already"),
        (("pack", files[0].with_suffix(""), "-o", tmp_path / "no" / "x"), "the folder {}/no does not exist"),
        (("unpack", tmp_path / "absent", tmp_path / "x"), "absent cannot be read"),
        (("unpack", files[1], tmp_path / "x"), "leaves out what policy-a"),
        (("list", tmp_path / "absent"), "is not a folder"),
        (("deploy", files[0], tmp_path / "root", "--keep", "1"), "--keep"),
    ):
        assert words.format(tmp_path) in told(*arguments, code=2)[1]
    assert list(tmp_path.iterdir()) == []


def test_what_an_update_saves_by_a_manifest_alone(files: Files, tmp_path: Path) -> None:
    bundle = files[1].with_suffix("")
    copy = tmp_path / "m.json"
    copy.write_bytes((files[0].with_suffix("") / "manifest.json").read_bytes())
    out, _ = told("pack", bundle, "-o", tmp_path / "b.vla", "--since", copy)
    assert "an update, with " in out
    saved = told_json("pack", files[2].with_suffix(""), "-o", tmp_path / "c.vla", "--since", copy)
    assert saved["packed_bytes"] > saved["bundle_bytes"] / 2
    out, _ = told("pack", files[2].with_suffix(""), "-o", tmp_path / "c.vla", "--since", copy, "--force")
    assert "Little was left out: a manifest alone tells whole files" in out
    copy.write_text('{"schema_version": 99}')
    assert "m.json" in told("pack", bundle, "-o", tmp_path / "d.vla", "--since", copy, code=2)[1]
    copy.write_text("notes")
    assert (
        "is not a packed bundle" in told("pack", bundle, "-o", tmp_path / "d.vla", "--since", copy, code=2)[1]
    )


def test_unpack_takes_from_the_bundle_beside(files: Files, tmp_path: Path) -> None:
    told("unpack", files[0], tmp_path / "old")
    told("unpack", files[1], tmp_path / "new")
    _, err = told("unpack", files[1], tmp_path / "elsewhere" / "new", code=2)
    assert "unpack with --base BUNDLE" in err
    assert "ROOT" not in err
    _, err = told("unpack", files[1], tmp_path / "third", "-v")
    assert "files are linked" in err


def test_a_failure_says_what_stays(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "root"
    told("deploy", files[0], root, "--no-build")
    name = (root / "current").readlink().name
    _, err = told("deploy", files[2], root, code=1)
    assert f"current is what it was, {name}" in err
    assert "--no-build" in err
    assert "--backend onnxruntime" in err
    assert "--sm" not in err
    assert not list(root.glob("policy-c*"))  # nothing was unpacked for it
    _, err = told("deploy", files[2], tmp_path / "other", code=1)
    assert "nothing is current, as before" in err


def test_damage_is_a_code_of_list(files: Files, tmp_path: Path) -> None:
    told("deploy", files[0], tmp_path / "root", "--no-build")
    (tmp_path / "root" / "current" / "golden.npz").unlink()
    assert "damaged: " in told("list", tmp_path / "root", code=1)[0]


# Sends itself a signal when a third of the blocks is done.
_INTERRUPTED = """
import os
from vla_edge.export.packed import packed
inner, count = packed.Packed.read, 0
def read(self, number):
    global count
    count += 1
    if count == 4:
        os.kill(os.getpid(), {number})
    return inner(self, number)
packed.Packed.read = read
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_current_one_and_nothing_else(
    files: Files, tmp_path: Path, number: signal.Signals
) -> None:
    root = tmp_path / "root"
    told("deploy", files[0], root, "--no-build")
    before = sorted(path.name for path in root.iterdir())
    done = run(
        ["vla-bundle", "deploy", str(files[2]), str(root), "--no-build"],
        before=_INTERRUPTED.format(number=int(number)),
    )
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr.endswith("interrupted\n")
    assert "current is what it was, policy-a-" in done.stderr
    assert sorted(path.name for path in root.iterdir()) == before


def test_of_two_at_once_one_is_refused_in_words(files: Files, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    holder = (
        "import sys; from pathlib import Path; from vla_edge.export.deploy.root import opened_root\n"
        f"with opened_root(Path({str(root)!r})): print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "another vla-bundle is at work" in told("deploy", files[0], root, "--no-build", code=1)[1]
        other.kill()
    told("deploy", files[0], root, "--no-build")
