"""`vla-run -o FILE`: CSV or JSON Lines, whole or not at all, and nothing lost when a run ends early."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.command.result_file import check_output, result_file
from vla_edge.runtime.errors import ImageError, InputError
from vla_edge.runtime.files import staging
from vla_edge.runtime.run.output_file import SUFFIXES, writers

Make = Callable[..., Path]


@pytest.fixture
def frames(tmp_path: Path, frame: np.ndarray) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for at in (2, 10, 1):
        Image.fromarray(np.roll(frame, at * 5, axis=1)).save(folder / f"frame{at}.png")
    (folder / "frame3.png").write_bytes(b"junk")
    return folder


def action_of(*names: str) -> ActionSpec:
    values = (1.0,) * len(names)
    return ActionSpec(names=names, units=("m/s",) * len(names), scale=values, offset=values, limit=values)


def vla_run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vla_edge.runtime.run.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_csv_has_a_row_an_image_and_units_in_its_columns(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    path = tmp_path / "actions.csv"
    done = vla_run(pristine_bundle, frames, "-o", path)
    assert done.returncode == 1
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == [
        "frame1.png",
        "frame2.png",
        "frame3.png",
        "frame10.png",
    ]
    assert list(rows[0])[:4] == ["image", "instruction", "linear_x_mps", "linear_y_mps"]
    assert rows[0]["instruction"] == "컵까지 가세요"
    assert f"{float(rows[0]['linear_x_mps']):+.4f}" in done.stdout
    assert (rows[0]["clamped"], rows[0]["held"], rows[0]["error"]) == ("false", "false", "")
    assert rows[2]["error"].endswith("frame3.png is not an image.")
    assert rows[2]["linear_x_mps"] == ""


@pytest.mark.parametrize(
    ("names", "units"),
    [(("total", "x"), ("ms", "m/s")), (("a", "a_b"), ("b_c", "c"))],
    ids=["as the time", "as another component"],
)
def test_components_whose_columns_would_be_one_are_refused_a_csv(
    tmp_path: Path, names: tuple[str, ...], units: tuple[str, ...]
) -> None:
    action = msgspec.structs.replace(action_of(*names), units=units)
    with (
        pytest.raises(InputError, match="two columns would be named '") as refused,
        result_file(tmp_path / "a.csv", writers(action)),
    ):
        pass
    assert refused.value.hint == "Write .jsonl instead."
    with result_file(tmp_path / "a.jsonl", writers(action)):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_json_lines_hold_what_json_on_the_screen_holds(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    path = tmp_path / "actions.jsonl"
    done = vla_run(pristine_bundle, frames, "--json", "-o", path)
    assert path.read_text(encoding="utf-8") == done.stdout
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 4


def test_a_run_that_ends_early_keeps_its_results_beside_the_earlier_file(
    pristine_bundle: Path, frames: Path, tmp_path: Path
) -> None:
    path = tmp_path / "actions.csv"
    path.write_text("earlier\n")
    done = vla_run(pristine_bundle, frames, "--strict", "-o", path)
    assert done.returncode == 2
    assert path.read_text() == "earlier\n"
    partial = tmp_path / "actions.csv.partial"
    assert f"the results so far are kept in {partial}" in done.stderr
    assert len(partial.read_text(encoding="utf-8").splitlines()) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_gave_nothing_leaves_nothing(pristine_bundle: Path, frames: Path, tmp_path: Path) -> None:
    done = vla_run(pristine_bundle, frames, "--instruction", "fly", "-o", tmp_path / "actions.csv")
    assert done.returncode == 2
    assert not list(tmp_path.glob("*actions*"))


def test_ctrl_c_keeps_the_results_so_far(tmp_path: Path) -> None:
    path = tmp_path / "actions.jsonl"
    error = ImageError("a.png is empty.", "Look.")

    def interrupted() -> None:
        with result_file(path, writers(action_of("linear_x"))) as write:
            write((Path("a.png"), error))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not path.exists()
    assert json.loads((tmp_path / "actions.jsonl.partial").read_text())["error"] == "a.png is empty."
    assert len(list(tmp_path.iterdir())) == 1


def test_a_text_that_a_spreadsheet_would_run_is_marked(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with result_file(path, writers(action_of("linear_x"))) as write:
        write((Path("=cmd.png"), ImageError("=cmd.png is empty.")))
    assert path.read_text().splitlines()[1] == "'=cmd.png,,,,,,'=cmd.png is empty."


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\uff1d", "\u3000="])
def test_a_name_of_the_action_is_no_formula_in_the_header(tmp_path: Path, start: str) -> None:
    path = tmp_path / "a.csv"
    with result_file(path, writers(action_of(f'{start}HYPERLINK("http://x")', "linear_y"))) as write:
        write((Path(f"{start}a.png"), ImageError("a is empty.")))
    head, row = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert head[2] == f'\'{start}HYPERLINK("http://x")_mps'
    assert head[3] == "linear_y_mps"
    assert row[0] == f"'{start}a.png"


def test_a_cell_commands_no_terminal_and_stays_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with result_file(path, writers(action_of("x\x9b31m\u202e\ny"))) as write:
        write((Path("a\x9b31m\u202e\x7f\nb.png"), ImageError("a is empty.")))
    head, row = csv.reader(path.read_text(encoding="utf-8").splitlines())
    assert head[2] == "x\\x9b31m\\u202e\\ny_mps"
    assert row[0] == "a\\x9b31m\\u202e\\x7f\\nb.png"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("actions.txt", "is of no known kind"),
        ("actions", "is of no known kind"),
        ("gone/actions.csv", "there is no folder"),
        ("folder.csv", "is a folder"),
    ],
)
def test_what_cannot_be_a_file_of_results_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=words):
        check_output(tmp_path / name, SUFFIXES)


def test_a_file_that_cannot_be_written_is_refused_before_the_bundle_is_loaded(
    frames: Path, tmp_path: Path
) -> None:
    done = vla_run(tmp_path / "no bundle", frames, "-o", tmp_path / "actions.xlsx")
    assert done.returncode == 2
    assert "give one that ends in .csv or .jsonl or .ndjson" in done.stderr


def test_results_that_a_neighbour_took_for_a_dead_one_s_are_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tidied = staging.take_lock, []

    def late(descriptor: int) -> None:
        if not tidied:
            tidied.append(descriptor)
            staging.remove_leftovers(tmp_path)
        real(descriptor)

    monkeypatch.setattr(staging, "take_lock", late)
    with result_file(tmp_path / "actions.csv", writers(action_of("linear_x"))) as write:
        write((Path("컵.png"), ImageError("컵.png is not an image.", "Give another.")))
    assert tidied
    assert "컵.png is not an image." in (tmp_path / "actions.csv").read_text(encoding="utf-8")
