"""The page of a replay: what it says, that it is one file, and that it stays small."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from episode_files import write_hdf5, write_video
from PIL import Image

from vla_edge.export.replay.cli import main
from vla_edge.export.replay.curves import MAX_POINTS, thinned, ticks
from vla_edge.export.replay.pictures import MAX_STRIP, STRIP_PX, WORST_PX, Pictures
from vla_edge.runtime import Policy
from vla_edge.runtime.replay.steps import Step

Make = Callable[..., Path]
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Elements and text; fails on one that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: object, code: int = 0) -> str:
    monkeypatch.setattr(sys, "argv", ["vla-replay", *map(str, arguments), "--page", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert int(ended.value.code or 0) == code
    return path.read_text(encoding="utf-8")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    folder.mkdir()
    for number in range(3):
        write_hdf5(folder / f"{number}_1box_vert_left.h5", number)
    return folder


def test_the_answer_stands_first_and_every_episode_is_drawn(
    monkeypatch: pytest.MonkeyPatch, make_bundle: Make, recordings: Path, tmp_path: Path
) -> None:
    single, half = make_bundle(), make_bundle(name="half", precision="fp16")
    text = page_of(monkeypatch, tmp_path / "page.html", half, recordings, "--against", single)
    page = Page(text)
    (answer,) = re.findall(r"<h1>(.*)</h1>", text)
    assert re.fullmatch(
        r"MAE 0\.\d{4}, the checkpoint tells 0\.2500; at worst \d\.\d\d\sm/s off what was driven", answer
    )
    for words in (
        "Worst steps",
        "How far off the steps are",
        "How the difference grows",
        "generated weights",
    ):
        assert words in page.text
    for number in range(3):
        assert f"<h3>{number}_1box_vert_left.h5</h3>" in text
    curves = [attrs["d"] for tag, attrs in page.elements if tag == "path"]
    assert len(curves) == 2 + 3 * 2 * 3  # the drift's, and of each episode three policies' of two components


def test_it_is_one_file_without_script_or_network_whose_pictures_are_small(
    monkeypatch: pytest.MonkeyPatch, make_bundle: Make, recordings: Path, tmp_path: Path
) -> None:
    page = Page(page_of(monkeypatch, tmp_path / "page.html", make_bundle(), recordings))
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "iframe", "a"})
    sources = [attrs["src"] for tag, attrs in page.elements if tag == "img"]
    assert len(sources) >= 3 * 3
    for source in sources:
        kind, _, data = (source or "").partition(",")
        assert kind == "data:image/jpeg;base64"
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) <= WORST_PX


def test_a_name_cannot_make_the_page_do_anything(
    monkeypatch: pytest.MonkeyPatch, make_bundle: Make, recordings: Path, tmp_path: Path
) -> None:
    (recordings / "0_1box_vert_left.h5").rename(
        recordings / "<img src=x onerror=alert(1)>\u202e_1box_vert_left.h5"
    )
    text = page_of(monkeypatch, tmp_path / "page.html", make_bundle(), recordings)
    assert "<img src=x" not in text
    assert "\u202e" not in text
    assert "&lt;img src=x" in text


def test_a_broken_episode_in_the_middle_takes_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch, make_bundle: Make, recordings: Path, tmp_path: Path
) -> None:
    """Its third frame is damaged, so that two were looked at."""
    import h5py

    def drawn(*arguments: object, code: int = 0) -> list[str]:
        text = page_of(
            monkeypatch,
            tmp_path / "page.html",
            make_bundle(name=f"b{code}"),
            recordings,
            *arguments,
            code=code,
        )
        return re.findall(r'src="(data:[^"]*)"', text)

    path = write_hdf5(recordings / "1_1box_vert_left.h5", chunks=(1, 24, 32, 3), compression=1)
    with h5py.File(path, "r+") as file:
        file["images"].id.write_direct_chunk((3, 0, 0, 0), b"no zlib stream")
    pictures = drawn("--skip-broken", code=1)
    path.unlink()
    assert pictures == drawn()


def test_a_recording_without_actions_makes_a_page_too(
    monkeypatch: pytest.MonkeyPatch, make_bundle: Make, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "drive.mp4", np.full((5, 48, 64, 3), 90, np.uint8))
    page = Page(page_of(monkeypatch, tmp_path / "page.html", make_bundle(), video))
    assert "nothing was driven to compare with" in page.text
    assert "Worst steps" not in page.text


def test_a_long_episode_leaves_few_frames_spread_over_it(make_bundle: Make) -> None:
    with Policy.load(make_bundle()) as policy:
        pictures = Pictures(policy.manifest.action)
    frame = np.zeros((720, 1280, 3), np.uint8)
    for at in range(1000):
        pictures.see(_step(at), frame)
    assert 4 <= len(pictures._strip) <= MAX_STRIP
    assert list(pictures._strip) == [at * pictures._every for at in range(len(pictures._strip))]
    assert max(pictures._strip) >= 500
    assert {max(image.size) for image in pictures._strip.values()} == {STRIP_PX}


def _step(at: int) -> Step:
    return Step("drive", at, None, None, None, (0.0, 0.0), None, None, None, None, False, False, 1.0)


def test_a_thinned_curve_keeps_the_worst_steps() -> None:
    wrong = np.zeros(50_000)
    wrong[[17, 31_234, 49_999]] = 1
    chosen = thinned(wrong)
    assert len(chosen) == MAX_POINTS
    assert {17, 31_234, 49_999} <= set(chosen.tolist())


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1.2, 1.2), (0, 17), (3, 3.01), (0, 1e-6), (0, 90_000)])
def test_ticks_are_few_and_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert all(0 <= place <= 100 for place, _ in found)
    assert len({text for _, text in found}) == len(found)
