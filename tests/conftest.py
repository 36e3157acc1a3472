"""Real tiny checkpoints and bundles, made once a session."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from ros_python import ROS_PYTHON

from vla_edge.runtime.engines.nvidia_gpu import has_nvidia_gpu

# The same examples at every run of CI, which judges a change and not luck; new ones at every other run.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# A shell's `&` and nohup leave these ignored, for all children too; the tests send them to commands that must end.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGTERM, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what fills the disk or cannot run here, unless -m names it."""
    named = set(re.findall(r"\w+", config.getoption("markexpr")))
    reasons = {"full": "writes 20 GB: run it with -m full"}
    if not has_nvidia_gpu():
        reasons["gpu"] = "no NVIDIA GPU here; -m gpu runs it all the same"
    if not ROS_PYTHON.exists():
        reasons["ros"] = "no rclpy in build/ros; make ros installs one"
    for mark in reasons.keys() - named:
        for item in items:
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reasons[mark]))


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the path of the tiny sample of a layout, its tokenizer beside it. Do not write to it."""
    from vla_edge.export.kosmos2.sample.samples import sample_of
    from vla_edge.export.kosmos2.sample.tokenizer import write_tokenizer
    from vla_edge.export.sample.sample import write_sample

    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def make(layout: str = "pure", clip_form: str = "none") -> Path:
        form = "transformers" if layout != "pure" and clip_form == "none" else clip_form
        folder = root / f"{layout}-{form}"
        path = folder / (
            "best_simple_lstm_model.pth" if layout == "pure" else "best_simple_clip_lstm_model.pth"
        )
        if path.exists():
            return path
        folder.mkdir()
        write_sample(path, sample_of(layout, form))  # type: ignore[arg-type]
        write_tokenizer(folder / "tokenizer")
        return path

    return make


@pytest.fixture(scope="session")
def bundle_of(
    tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[..., Path]
) -> Callable[..., Path]:
    """Gives the folder of a tiny bundle: `bundle_of("hybrid-a", "open_clip", "fp16")`. Do not write to it."""
    from vla_edge.export.pipeline import ExportOptions, export_bundle

    root = tmp_path_factory.mktemp("bundles")

    @cache
    def make(layout: str = "pure", clip_form: str = "none", precision: str = "fp16") -> Path:
        options = ExportOptions(
            checkpoint_of(layout, clip_form), root / f"{layout}-{clip_form}", (precision,)
        )
        target = options.target(precision)
        return target if target.exists() else export_bundle(options)[0].folder

    return make


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a bundle with fields of `Tiny` of one's choice; each of another name lies beside the others."""
    from tiny_bundle import Tiny, write_bundle

    def make(**fields: Any) -> Path:
        tiny = Tiny(**fields)
        return write_bundle(tmp_path / tiny.name, tiny)

    return make


@pytest.fixture(scope="session")
def pristine_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain bundle; not to be changed."""
    from tiny_bundle import Tiny, write_bundle

    return write_bundle(tmp_path_factory.mktemp("pristine") / "tiny", Tiny())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives a real disk of so many KiB (a tmpfs); skips where mounting is not permitted."""
    places: list[Path] = []

    def mount(size_kib: int) -> Path:
        place = tmp_path / f"disk-{len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", "-l", str(place)], check=True)
