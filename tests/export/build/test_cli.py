"""The command `vla-build`."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from plan_builds import left_in

from vla_edge.export.build import build as build_module
from vla_edge.export.build.cli import build as build_command
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import EngineError


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_command, [str(argument) for argument in arguments], standalone_mode=False)


def test_the_command_prints_what_was_built(bundle: Bundle) -> None:
    result = run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89, "--sm", 120)
    assert result.exception is None
    for words in (
        "-sm89.plan",
        "-sm120.plan",
        "SM 12.0, GPU not here",
        "float16",
        "next, on the target: vla-build --verify",
    ):
        assert words in result.stdout
    assert result.stdout.startswith("NOT checked: built for SM 8.9 on a machine without that GPU.")
    assert "(was there already)" in run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89).stdout


def test_the_command_shows_all_gates_of_a_plan_that_missed_one(
    bundle: Bundle, with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(False)
    result = run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89)
    assert isinstance(result.exception, build_module.RejectedPlanError)
    verdict, heads, action = result.stdout.splitlines()
    assert verdict.startswith("REJECTED: action 0.5 m/s of ")
    assert heads.split() == ["stage", "error", "allowed", "room"]
    assert action.split()[:3] == ["action", "0.5", "m/s"]
    assert "MISSED" in action
    assert run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89, "--json").stdout == ""


def test_the_command_begins_with_the_error_of_a_plan_that_was_checked(
    bundle: Bundle, with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(True)
    result = run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89)
    assert result.stdout.startswith("checked: action within ")
    assert result.stdout.splitlines()[-1] == f"next: vla-run {bundle.folder} IMAGE"


def test_the_command_prints_the_side_file_as_json(built: tuple[Bundle, Path]) -> None:
    result = run(built[0].folder, "--backend", "tensorrt-rtx", "--sm", 89, "--json")
    assert msgspec.json.encode(json.loads(result.stdout))
    assert json.loads(result.stdout)["machine"]["sm"] == 89


def test_a_machine_without_tensorrt_is_told_what_to_install(built: tuple[Bundle, Path]) -> None:
    result = run(built[0].folder, "--backend", "tensorrt")
    assert isinstance(result.exception, EngineError)
    assert result.exception.problem.startswith(("TensorRT is not installed", "There is no NVIDIA driver"))


@pytest.mark.parametrize("options", [("--verify", "--stages"), ("--timing-cache", "x", "--no-timing-cache")])
def test_options_that_exclude_each_other_are_refused(
    built: tuple[Bundle, Path], options: tuple[str, ...]
) -> None:
    result = run(built[0].folder, *options)
    assert "exclude each other" in str(result.exception)


@pytest.mark.parametrize("options", [("--force",), ("--parts", "3"), ("--no-reuse",), ("--level", "3")])
def test_a_check_takes_no_options_of_builds(built: tuple[Bundle, Path], options: tuple[str, ...]) -> None:
    words = f"--verify builds nothing: leave out {options[0]}"
    assert words in str(run(built[0].folder, "--verify", *options).exception)


def test_a_bundle_may_be_given_by_its_manifest(built: tuple[Bundle, Path]) -> None:
    result = run(built[0].folder / "manifest.json", "--backend", "tensorrt-rtx", "--sm", 89)
    assert "(was there already" in result.stdout


def test_stages_are_measured_in_one_engine_only(built: tuple[Bundle, Path]) -> None:
    result = run(built[0].folder, "--backend", "tensorrt-rtx", "--stages", "--sm", 89, "--sm", 120)
    assert "--stages measures one engine: give --sm once" in str(result.exception)


def test_help_needs_no_engine_and_shows_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import vla_edge.export.build.cli"],
        capture_output=True,
        text=True,
    )
    for heavy in ("torch", "onnx", "tensorrt_rtx", "transformers"):
        assert f"| {heavy}\n" not in done.stderr
    assert "Examples:" in CliRunner().invoke(build_command, ["--help"]).output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_leaves_quietly_on_a_signal(bundle: Bundle, number: signal.Signals) -> None:
    lines = f"""
import os, signal, vla_edge.export.build.progress as progress
inner = progress.ShownProgress.start
def start(self, *arguments):
    inner(self, *arguments)
    if arguments[1] is None:
        os.kill(os.getpid(), {int(number)})
        os.kill(os.getpid(), {int(number)})
progress.ShownProgress.start = start
import sys
sys.argv = ["vla-build", {str(bundle.folder)!r}, "--backend", "tensorrt-rtx", "--sm", "89"]
from vla_edge.export.build.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + number, done.stderr
    assert "interrupted" in done.stderr
    assert left_in(bundle) == []


@pytest.fixture
def hybrid(bundle_of: Callable[..., Path], tmp_path: Path) -> Bundle:
    shutil.copytree(bundle_of("hybrid-a", "transformers", "fp16"), tmp_path / "engines" / "policy-1")
    return Bundle.open(tmp_path / "engines" / "policy-1")


def test_the_command_shows_each_part_with_what_it_took(hybrid: Bundle) -> None:
    result = run(hybrid.folder, "--backend", "tensorrt-rtx", "--sm", 89, "--parts", 3)
    assert result.exception is None
    lines = result.stdout.splitlines()
    assert lines[0].startswith("NOT checked: ")
    assert " in 3 parts" in result.stdout
    at = next(at for at, line in enumerate(lines) if line.startswith("part "))
    assert lines[at].split() == ["part", "weights", "predicted", "memory", "time", "from"]
    assert [line.split()[-1] for line in lines[at + 1 : at + 4]] == ["built"] * 3
    assert max(map(len, lines[at : at + 4])) <= 80
    assert re.search(r"MiB of weights, about \d+ MiB to build", result.stderr)
    assert "its largest part: host memory " in result.stdout
    assert "part 3 of 3: " in result.stderr
    again = run(hybrid.folder, "--backend", "tensorrt-rtx", "--sm", 89, "--json")
    assert len(json.loads(again.stdout)["parts"]) == 3


def test_one_gpu_that_nothing_is_built_for_does_not_keep_the_others_from_their_plans(hybrid: Bundle) -> None:
    result = run(hybrid.folder, "--backend", "tensorrt-rtx", "--sm", 75, "--sm", 80, "--parts", 2)
    assert result.return_value == 1
    (problem,) = [line for line in result.stderr.splitlines() if "FP32 GEMM is not supported" in line]
    assert problem.startswith("error: TensorRT-RTX ")
    assert " for SM 7.5: " in problem
    assert "goes on" not in result.stderr
    assert "-sm80.plan" in result.stdout
    assert not [name for name in left_in(hybrid) if name.startswith(".")]


def test_what_is_not_taken_and_what_was_not_heard_is_said(hybrid: Bundle) -> None:
    sm = ("--backend", "tensorrt-rtx", "--sm", 89)
    run(hybrid.folder, *sm, "--parts", 2)
    other = hybrid.folder.with_name("policy-2")
    shutil.copytree(hybrid.folder, other, ignore=shutil.ignore_patterns("plans"))
    result = run(other, *sm)
    assert "\nno parts are taken of policy-1: never checked" in result.stderr
    assert re.search(r"host memory \d+ MiB, predicted \d+ MiB", result.stdout)
    again = run(other, *sm, "--no-reuse", "--memory-limit", "300MiB")
    assert (
        "(was there already: --memory-limit, --no-reuse changed nothing; --force builds anew)" in again.stdout
    )


def test_the_command_says_which_parts_were_found(hybrid: Bundle, with_gpu: Callable[[bool], None]) -> None:
    with_gpu(True)
    run(hybrid.folder, "--backend", "tensorrt-rtx", "--sm", 89, "--parts", 3)
    other = hybrid.folder.with_name("policy-2")
    shutil.copytree(hybrid.folder, other, ignore=shutil.ignore_patterns("plans"))
    result = run(other, "--backend", "tensorrt-rtx", "--sm", 89)
    assert result.exception is None
    assert "nothing built: all 3 parts were found" in result.stdout
    table = result.stdout[result.stdout.index("part ") :].splitlines()[1:4]
    assert [line.split()[-1] for line in table] == ["policy-1"] * 3  # its folder, not the export's name
    assert result.stderr.count("found in policy-1") == 3
    third = run(other, "--backend", "tensorrt-rtx", "--sm", 89, "--parts", 4)
    assert "found in itself" in third.stderr
    assert "parts in line 2.000 ms, side by side 1.500 ms: side by side" in result.stdout


def test_the_command_says_where_a_whole_plan_was_found(
    hybrid: Bundle, with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(True)
    run(hybrid.folder, "--backend", "tensorrt-rtx", "--sm", 89, "--parts", 1)
    other = hybrid.folder.with_name("policy-2")
    shutil.copytree(hybrid.folder, other, ignore=shutil.ignore_patterns("plans"))
    assert "nothing built: found in policy-1" in run(other, "--backend", "tensorrt-rtx", "--sm", 89).stdout
    there = run(other, "--backend", "tensorrt-rtx", "--sm", 89).stdout
    assert f"nothing built: taken from export {hybrid.manifest.name}" in there


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--parts", "0"), "neither 'auto' nor a number"),
        (("--memory-limit", "12"), "no amount of memory, such as 12GiB"),
    ],
)
def test_wrong_numbers_are_refused_in_words(
    built: tuple[Bundle, Path], options: tuple[str, ...], words: str
) -> None:
    assert words in str(run(built[0].folder, *options).exception)
