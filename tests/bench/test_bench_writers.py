"""Reports in every form, into one folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from bench_examples import example_report
from click.testing import CliRunner

from vla_edge.bench.output import render_cli
from vla_edge.bench.output.csv_table import to_csv
from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.output.page import to_page
from vla_edge.bench.output.writers import prepare_folder, write_outputs
from vla_edge.bench.report import decode, encode
from vla_edge.runtime.errors import InputError

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
    with pytest.raises(InputError, match=r"cannot make the folder .*x for the reports: File exists"):
        prepare_folder(tmp_path / "x")


def test_a_folder_named_like_a_report_is_refused_before_measuring(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html: it is a folder"):
        prepare_folder(tmp_path)


def test_a_library_that_is_not_there_is_named_with_its_mend(tmp_path: Path, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name)
    )
    with pytest.raises(InputError, match="the page needs matplotlib") as caught:
        prepare_folder(tmp_path)
    assert caught.value.mend == "pip install 'vla-edge[bench]'"


def test_a_stored_report_can_be_rendered_again(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_bytes(encode(example_report()))
    out = tmp_path / "pages"
    done = CliRunner().invoke(
        render_cli.command, [str(tmp_path / "old.json"), "--out", str(out)], standalone_mode=False
    )
    assert done.return_value == 0
    assert done.output.split() == [str(out / name) for name in NAMES]
