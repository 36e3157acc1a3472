"""A replay as a recording for the Rerun viewer, read back by Rerun's own reader."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episode_files import FRAMES, actions_of, write_hdf5
from PIL import Image
from rerun_files import names_in_layout

from vla_edge.export.replay.cli import main

Make = Callable[..., Path]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["vla-replay", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def logged(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """By entity: the steps and what was logged at each."""
    from rerun.chunk import RrdReader

    found: dict[str, list[tuple[int, Any]]] = {}
    for chunk in RrdReader(path).stream():
        table = chunk.to_record_batch()
        # the first component of what was logged; beside it stand clocks
        names = [name for name in table.schema.names if ":" in name and not name.endswith(":media_type")]
        if "step" in table.schema.names and names:
            values = zip(table.column("step").to_pylist(), table.column(names[0]).to_pylist(), strict=True)
            rows = [(step, value[0]) for step, value in values if value is not None]
            found.setdefault(chunk.entity_path, []).extend(rows)
    return {entity: sorted(rows, key=lambda row: row[0]) for entity, rows in found.items()}


def test_frames_and_velocities_stand_on_one_timeline(
    monkeypatch: pytest.MonkeyPatch, make_bundle: Make, tmp_path: Path
) -> None:
    episode = write_hdf5(tmp_path / "0_1box_vert_left.h5", 0)
    single, half = make_bundle(), make_bundle(name="half", precision="fp16")
    assert run(monkeypatch, half, episode, "--against", single, "--rerun", tmp_path / "drive.rrd") == 0
    found = logged(tmp_path / "drive.rrd")
    (camera,) = [rows for entity, rows in found.items() if entity.endswith("/camera")]
    assert [step for step, _ in camera] == list(range(FRAMES))
    assert Image.open(io.BytesIO(bytes(camera[0][1]))).size == (32, 24)
    (driven,) = [rows for entity, rows in found.items() if entity.endswith("/linear_x/driven")]
    np.testing.assert_allclose([value for _, value in driven], actions_of(0)[:, 0])
    for what in ("predicted", "against"):
        (rows,) = [rows for entity, rows in found.items() if entity.endswith(f"/linear_y/{what}")]
        assert len(rows) == FRAMES


def test_an_episode_has_a_tab_and_a_component_a_plot_with_its_unit(
    monkeypatch: pytest.MonkeyPatch, make_bundle: Make, tmp_path: Path
) -> None:
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for number, name in enumerate(("0_1box_vert_left.h5", "1_1box_hori_left.h5")):
        write_hdf5(recordings / name, number)
    assert run(monkeypatch, make_bundle(), recordings, "--rerun", tmp_path / "drive.rrd") == 0
    of_one = ["camera", "instruction", "linear_x [m/s]", "linear_y [m/s]"]
    tabs = ["0_1box_vert_left.h5", "1_1box_hori_left.h5"]
    assert sorted(names_in_layout(tmp_path / "drive.rrd")) == sorted([*tabs, *of_one, *of_one])


def test_it_appears_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, make_bundle: Make, tmp_path: Path
) -> None:
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert run(monkeypatch, make_bundle(), tmp_path / "broken.h5", "--rerun", tmp_path / "drive.rrd") == 2
    assert [path.name for path in tmp_path.iterdir() if "rrd" in path.name] == []
