"""The command: the answer first, a table of 80 columns, JSON, exit codes, quiet ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_edge.export.doctor.examination import Diagnosis, Patient
from vla_edge.export.doctor.finding import Finding
from vla_edge.export.doctor.view import answer, as_json
from vla_edge.runtime.files.staging import new_folder

BundleOf = Callable[..., Path]
FINE, WARNING = (
    Finding("python", "Python", "3.10"),
    Finding("memory", "memory", "little", "warning", "Add swap."),
)
UNKNOWN = Finding("clocks", "GPU clock", "could not be told: no answer in 10 s", "unknown")
STOPS = Finding(
    "tensorrt", "TensorRT", "TensorRT 8.6.2 is too old: it cannot build.", "stops", "Move to 10.3."
)


def diagnosis(*findings: Finding, name: str = "pure-fp16") -> Diagnosis:
    return Diagnosis(Patient(Path("engines/pure-fp16"), name), findings, ())


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        ((FINE,), "can run pure-fp16: nothing stops it."),
        ((FINE, WARNING), "can run pure-fp16: nothing stops it; 1 warning."),
        (
            (WARNING, WARNING, UNKNOWN),
            "can run pure-fp16, as far as could be told: nothing stops it; 2 warnings, 1 could not be told.",
        ),
        (
            (STOPS, WARNING),
            "cannot run pure-fp16: 1 thing stops it: TensorRT (TensorRT 8.6.2 is too old); 1 warning.",
        ),
    ],
)
def test_the_answer_is_one_plain_sentence(findings: tuple[Finding, ...], words: str) -> None:
    assert answer(diagnosis(*findings)) == f"This machine {words}"


def test_of_several_things_that_stop_it_three_are_named() -> None:
    words = answer(diagnosis(STOPS, STOPS, STOPS, STOPS, name=""))
    assert words.startswith("This machine cannot run a policy: 4 things stop it: ")
    assert words.count("8.6.2") == 3


def test_json_has_stable_keys() -> None:
    found = as_json(diagnosis(STOPS, WARNING))
    assert [*found] == [
        "schema", "answer", "can_run", "stops", "warnings", "unknown", "bundle", "findings", "leftovers",
    ]  # fmt: skip
    assert (found["can_run"], found["stops"], found["warnings"], found["unknown"]) == (False, 1, 1, 0)
    assert found["findings"][1] == {
        "id": "memory", "what": "memory", "found": "little", "verdict": "warning", "todo": "Add swap.",
    }  # fmt: skip


def doctor(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vla_edge.export.doctor.cli", *map(str, arguments)]
    world = {**os.environ, "TMPDIR": str(cwd), **environment}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=world
    )


def test_this_machine_is_examined_within_80_columns(tmp_path: Path) -> None:
    done = doctor(cwd=tmp_path, COLUMNS="80", TERM="xterm", FORCE_COLOR="1")
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    assert shown.startswith("This machine can run a policy: nothing stops it")
    assert [line for line in shown.splitlines() if len(line.rstrip()) > 80] == []


def test_a_pipe_gets_no_colours(tmp_path: Path) -> None:
    assert "\x1b" not in doctor(cwd=tmp_path).stdout


def test_a_bundle_is_run_and_told(bundle_of: BundleOf, tmp_path: Path) -> None:
    done = doctor(bundle_of("pure"), "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["can_run"]
    assert found["bundle"] == str(bundle_of("pure"))
    assert [finding["id"] for finding in found["findings"]][-3:] == ["files", "plan", "samples"]


def test_samples_can_be_left_out(bundle_of: BundleOf, tmp_path: Path) -> None:
    done = doctor(bundle_of("pure") / "manifest.json", "--json", "--no-samples", cwd=tmp_path)
    assert [finding["id"] for finding in json.loads(done.stdout)["findings"]][-2:] == ["files", "plan"]


def test_beside_a_policy_that_runs_no_samples_are_run(bundle_of: BundleOf, tmp_path: Path) -> None:
    done = doctor(bundle_of("pure"), "--json", "--running", cwd=tmp_path)
    assert [finding["id"] for finding in json.loads(done.stdout)["findings"]][-2:] == ["files", "plan"]


def test_of_a_robot_s_folder_the_current_one_is_offered_first(bundle_of: BundleOf, tmp_path: Path) -> None:
    root = tmp_path / "engines"
    shutil.copytree(bundle_of("pure"), root / "a-pure")
    (root / "current").symlink_to("a-pure")
    done = doctor(root, cwd=tmp_path)
    assert done.returncode == 2
    assert f"Give one: {root}/current or {root}/a-pure." in done.stderr
    assert doctor(root / "current", "--no-samples", cwd=tmp_path).returncode == 0


def test_a_damaged_bundle_ends_with_1(bundle_of: BundleOf, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle_of("pure"), tmp_path / "\x1b[31mpure")
    (copy / "manifest.json").write_text("{")
    done = doctor(copy, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("This machine cannot run \\x1b[31mpure: 1 thing stops it: files (")
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("name", ["missing", "empty", "engines"])
def test_what_is_no_bundle_ends_with_2(bundle_of: BundleOf, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "engines").mkdir()
    shutil.copytree(bundle_of("pure"), tmp_path / "engines" / "pure")
    done = doctor(tmp_path / name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    words = {"missing": "does not exist", "empty": "is not a bundle", "engines": "is a folder of bundles"}
    assert words[name] in done.stderr
    assert name != "engines" or f"Give one: {tmp_path / 'engines/pure'}." in done.stderr


def test_clean_removes_leftovers(tmp_path: Path) -> None:
    left, lock = new_folder(tmp_path / "pure-fp16")
    os.close(lock)
    found = json.loads(doctor("--json", cwd=tmp_path).stdout)
    assert [each["path"] for each in found["leftovers"]] == [str(left)]
    assert left.exists()
    found = json.loads(doctor("--json", "--clean", cwd=tmp_path).stdout)
    assert [each["removed"] for each in found["leftovers"]] == [True]
    assert not left.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly_and_its_processes_too(tmp_path: Path, number: signal.Signals) -> None:
    script = """
import os, time
from vla_edge.export.doctor import examination
tell = os.dup(1)
examination.probe_gpu = lambda: (os.write(tell, b"%d\\n" % os.getpid()), time.sleep(60))
from vla_edge.export.doctor.cli import main
main()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        probe = int(process.stdout.readline())
        process.send_signal(number)
        assert process.stderr.read().strip() == "interrupted"
        assert process.wait() == 128 + number
    ends_s = time.monotonic() + 20
    while Path(f"/proc/{probe}").exists() and time.monotonic() < ends_s:
        time.sleep(0.01)
    assert not Path(f"/proc/{probe}").exists()
