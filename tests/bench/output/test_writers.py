"""Reports in every form, into one folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_examples import example_report, full_report
from click.testing import CliRunner, Result

from vla_edge.bench.output import render_cli
from vla_edge.bench.output.csv_table import to_csv
from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.output.page import to_page
from vla_edge.bench.output.writers import prepare_folder, write_outputs
from vla_edge.bench.report.codec import decode, encode
from vla_edge.bench.report.types import Report
from vla_edge.runtime.command import extras
from vla_edge.runtime.errors import InputError, MissingPackageError

NAMES = ["report.json", "report.csv", "report.md", "report.html"]


def test_a_folder_gets_the_report_in_four_forms(tmp_path: Path) -> None:
    report = example_report()
    paths = write_outputs(report, tmp_path)
    assert [path.name for path in paths] == NAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    assert decode(paths[0].read_bytes(), "report.json") == report
    assert [path.read_text() for path in paths[1:]] == [to_csv(report), to_markdown(report), to_page(report)]


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_way_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(InputError, match=r"x is not a folder, so nothing can be written into"):
        prepare_folder(tmp_path / "x")


def test_a_folder_named_like_a_report_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html: it is a folder"):
        prepare_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.md", "# What I did this summer"),
        ("report.html", "<!doctype html><title>mine</title>"),
        ("report.csv", "backend,p50\n"),
        ("report.json", '{"tool": "mine"}'),
        ("report.md", "\x00\xff"),
    ],
)
def test_a_file_that_vla_bench_did_not_write_is_never_written_over(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match="is there already, and vla-bench did not write it") as caught:
        prepare_folder(tmp_path)
    assert "--out" in caught.value.hint
    assert str(tmp_path / name) in caught.value.problem
    assert rendered(tmp_path, "--out", tmp_path).exception is not None
    assert (tmp_path / name).read_text() == content
    assert [path.name for path in tmp_path.iterdir() if path.name != "old.json"] == [name]


@pytest.mark.parametrize("report", [example_report(), full_report()])
def test_what_vla_bench_wrote_it_writes_again(tmp_path: Path, report: Report) -> None:
    write_outputs(report, tmp_path)
    prepare_folder(tmp_path)
    for name in NAMES:
        (tmp_path / name).write_bytes(b"")  # nothing to lose
    prepare_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "given", "folder"),
    [
        ("kept.json", "kept.json", "kept-report"),
        ("report.partial.json", "report.partial.json", "report.partial-report"),
        ("report.json", "report.json", "."),
        ("report.json", ".", "."),
    ],
)
def test_a_report_is_rendered_beside_itself_and_not_where_the_user_happens_to_be(
    tmp_path: Path, name: str, given: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    home.mkdir()
    monkeypatch.chdir(elsewhere)
    (home / name).write_bytes(encode(example_report()))
    done = CliRunner().invoke(render_cli.command, [str(home / given)], standalone_mode=False)
    assert done.output.split() == [str(home / folder / form) for form in NAMES]
    assert list(elsewhere.iterdir()) == []


def rendered(folder: Path, *options: object) -> Result:
    (folder / "old.json").write_bytes(encode(example_report()))
    arguments = [str(folder / "old.json"), *map(str, options)]
    return CliRunner().invoke(render_cli.command, arguments, standalone_mode=False)


def test_a_library_that_is_not_there_is_named_with_its_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "jinja2")
    with pytest.raises(MissingPackageError, match="jinja2 is not installed here") as caught:
        prepare_folder(tmp_path)
    assert caught.value.hint == "pip install 'vla-edge[bench]'"


def test_a_stored_report_can_be_rendered_again(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_bytes(encode(example_report()))
    out = tmp_path / "pages"
    done = CliRunner().invoke(
        render_cli.command, [str(tmp_path / "old.json"), "--out", str(out)], standalone_mode=False
    )
    assert done.return_value == 0
    assert done.output.split() == [str(out / name) for name in NAMES]


@pytest.mark.parametrize("room_kib", [8, 24, 48])
def test_on_a_disk_that_fills_up_no_file_of_the_four_appears(
    tmp_path: Path, small_disk: Callable[[int], Path], room_kib: int
) -> None:
    disk = small_disk(room_kib)
    done = run_command_line(tmp_path, disk / "pages")
    assert done.returncode == 1
    assert "is full.\nFree some space, or write elsewhere." in done.stderr
    assert list((disk / "pages").iterdir()) == []


def test_on_a_full_disk_an_earlier_report_stays_as_it_was(
    tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(2048)
    report = example_report()
    before = {path: path.read_bytes() for path in write_outputs(report, disk)}
    room = 2048 - used_kib(disk) - 16
    (disk / "ballast").write_bytes(bytes(room << 10))
    done = run_command_line(tmp_path, disk)
    assert done.returncode == 1
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in disk.iterdir()) == sorted([*NAMES, "ballast"])


def run_command_line(tmp_path: Path, out: Path) -> subprocess.CompletedProcess[str]:
    kept = tmp_path / "kept.json"
    kept.write_bytes(encode(example_report()))
    arguments = [sys.executable, "-m", "vla_edge.bench.cli", "render", str(kept), "--out", str(out)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def used_kib(folder: Path) -> int:
    """What the files of a folder take on their disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir()) >> 10
