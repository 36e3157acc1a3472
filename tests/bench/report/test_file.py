"""A report that is not what it seems is refused by name, in bounded time and memory."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_examples import full_report
from click.testing import CliRunner

from vla_edge.bench.compare.cli import command
from vla_edge.bench.output.render_cli import command as render
from vla_edge.bench.report import file as report_file
from vla_edge.bench.report.codec import encode
from vla_edge.bench.report.file import read_report
from vla_edge.bench.report.types import MOST_SAMPLES
from vla_edge.runtime.errors import InputError

WRITTEN = encode(full_report())


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_report(path)
    assert caught.value.hint
    problem = caught.value.problem
    assert problem.isprintable()
    assert len(problem) < 1000
    return problem


def holding(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    document = json.loads(WRITTEN)
    change(document)
    return holding(path, json.dumps(document).encode())


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (pipe, "not a regular file"),
        (bound_socket, "cannot read the report"),
        (loop, "cannot read the report"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to("absent"), "No such file"),
        (lambda path: path.mkdir(), "has no report.json"),
    ],
    ids=["pipe", "socket", "loop", "device", "dangling", "folder"],
)
def test_what_is_no_regular_file_is_not_read(
    make: Callable[[Path], object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    make(Path("report.json"))
    assert words in refusal(Path("report.json"))


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert "cannot read the report" in refusal(Path("a\0b"))
    assert "cannot read the report" in refusal(Path("a" * 300))


def test_a_file_larger_than_any_report_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_file, "LARGEST_BYTES", 1 << 20)
    path = holding(tmp_path / "report.json", b" ")
    os.truncate(path, 900 << 30)  # takes no room
    assert "it has more than 1 MiB" in refusal(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe{}",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        WRITTEN[:-100],
        WRITTEN + b"{}",
        WRITTEN.replace(b'"schema_version": 3', b'"schema_version": 4'),
        WRITTEN.replace(b'"tool"', b'"\\u001b[2Jtool"'),
        WRITTEN.replace(b'"tool"', b'"\\u202etool"'),
        WRITTEN.replace(b'"tool"', b'"' + b"x" * 100_000 + b'"'),
        WRITTEN.replace(b'"threads": ', b'"threads": \xc3'),
    ],
)
def test_what_is_no_report_is_refused_in_printable_words(data: bytes, tmp_path: Path) -> None:
    assert "report.json is not a bench report" in refusal(holding(tmp_path / "report.json", data))


MANIFEST = b'{"schema_version": 1, "name": "policy", "parity": {}, "files": []}'


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (MANIFEST, "it is a bundle's manifest"),
        (b'{"a": 1}', "it has none of a report's figures"),
        (b'{"schema_version": 2}', "it has none of a report's figures"),
        (
            WRITTEN.replace(b'"schema_version": 3', b'"schema_version": 4'),
            "its schema_version is 4, and this vla-bench reads 2 and 3",
        ),
        (
            WRITTEN.replace(b'"schema_version": 3', b'"schema_version": "x\\u001b[2J"'),
            "its schema_version is x\\x1b[2J, and this vla-bench reads 2 and 3",
        ),
    ],
)
def test_what_is_something_else_is_told_in_plain_words(data: bytes, words: str, tmp_path: Path) -> None:
    path = holding(tmp_path / "manifest.json", data)
    assert refusal(path) == f"{path} is not a bench report: {words}."


def test_a_bundle_given_as_a_report_is_told_how_to_measure_it(tmp_path: Path) -> None:
    holding(tmp_path / "manifest.json", MANIFEST)
    with pytest.raises(InputError, match=r"is a bundle, no report: it has no report\.json") as caught:
        read_report(tmp_path)
    assert caught.value.hint == f"Measure it with: vla-bench {tmp_path} --out report/"


def test_a_folder_without_a_report_names_the_option_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no report\.json") as caught:
        read_report(tmp_path)
    assert "--out" in caught.value.hint


def rows(document: dict[str, Any]) -> dict[str, Any]:
    return document["bundles"][0]["rows"][0]


@pytest.mark.parametrize("number", [-1, 1e13, 1e308, "1", None, [], {}, True, 10**400])
def test_a_figure_out_of_range_is_refused_with_its_place(number: Any, tmp_path: Path) -> None:
    path = changed(tmp_path / "report.json", lambda document: rows(document)["step"].update(p50_ms=number))
    assert "p50_ms" in refusal(path) or "out of range" in refusal(path)


@pytest.mark.parametrize("number", [-1, 0.5, 1 << 60, 10**400])
def test_a_count_out_of_range_is_refused(number: Any, tmp_path: Path) -> None:
    path = changed(
        tmp_path / "report.json", lambda document: document["bundles"][0].update(parameters=number)
    )
    assert "parameters" in refusal(path) or "out of range" in refusal(path)


def test_more_samples_than_a_bench_takes_are_refused(tmp_path: Path) -> None:
    many = [1.0] * (MOST_SAMPLES + 1)
    path = changed(tmp_path / "report.json", lambda document: rows(document)["samples"].update(step_ms=many))
    assert "step_ms" in refusal(path)


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a document, as its container and key."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [spot for key in keys for spot in ((value, key), *spots(value[key]))]


ODD_NUMBERS = (True, -1, 0, 1e12, 1e100, -1e100, 1e-300, 1 << 53)
ODD = (*ODD_NUMBERS, None, "", "\x1b[31m", "\u202e", "|`<b>", "x" * 300, "1.0", [], {}, [0.0])


@pytest.mark.parametrize("seed", range(60))
def test_a_report_with_any_odd_values_is_compared_or_refused(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    document = json.loads(WRITTEN)
    for container, key in chance.sample(spots(document), 1 + seed % 3):
        container[key] = chance.choice(ODD)
    odd = holding(tmp_path / "odd.json", json.dumps(document).encode())
    sound = holding(tmp_path / "sound.json", WRITTEN)
    for pair in ((odd, sound), (sound, odd)):
        done = CliRunner().invoke(command, [str(path) for path in pair], standalone_mode=False)
        assert done.exception is None or isinstance(done.exception, InputError), done.exc_info
        assert "\x1b" not in done.output
        assert "\u202e" not in done.output


def test_rendering_reads_folders_and_refuses_alike(tmp_path: Path) -> None:
    holding(tmp_path / "report.json", b"[]")
    done = CliRunner().invoke(render, [str(tmp_path), "--out", str(tmp_path)], standalone_mode=False)
    assert isinstance(done.exception, InputError)
    assert "is not a bench report" in done.exception.problem
