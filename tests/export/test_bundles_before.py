"""A bundle whose manifest is of schema version 1 runs, is judged and is looked at as today's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from manifest_before import rewrite_as_version_1

from vla_edge.export.bundle.parity import measure_bundle
from vla_edge.runtime import Policy
from vla_edge.runtime.bundle.bundle import Bundle

PHOTO = Path(__file__).parents[2] / "export" / "images" / "coffee.jpg"


@pytest.fixture(scope="module")
def both(bundle_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle, and the same with a manifest of version 1."""
    now = bundle_of("hybrid-a", "transformers")
    before = Path(shutil.copytree(now, tmp_path_factory.mktemp("before") / now.name))
    rewrite_as_version_1(before)
    return now, before


def command(module: str, *arguments: str | Path) -> str:
    """What a command says, without times, folders and the manifest's hash."""
    line = [sys.executable, "-m", module, *map(str, arguments)]
    text = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"[0-9.]+ ms", "MS", text).replace(str(arguments[0]), "BUNDLE")
    return re.sub(r"(manifest SHA-256|-fp16) [0-9a-f]{12}", r"\1 HASH", text)


def test_it_acts_alike(both: tuple[Path, Path]) -> None:
    actions = []
    for folder in both:
        with Policy.load(folder, "onnxruntime", threads=1) as policy:
            first = policy.instructions[0]
            actions += [(policy.act(PHOTO, first).values, policy.act(PHOTO).raw, policy.manifest.action)]
    assert actions[0] == actions[1]


def test_its_golden_samples_pass_alike(both: tuple[Path, Path]) -> None:
    found = [measure_bundle(Bundle.open(folder)) for folder in both]
    assert found[0] == found[1]
    assert np.isfinite(found[1].max_abs)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("vla_edge.runtime.run.cli", (PHOTO,)), ("vla_edge.export.inspect.cli", ("--sha256",))],
)
def test_commands_say_the_same(both: tuple[Path, Path], module: str, arguments: tuple[str, ...]) -> None:
    now, before = (command(module, folder, *arguments) for folder in both)
    assert before == now
    assert "m/s" in now


def test_the_two_compare_as_the_same(both: tuple[Path, Path]) -> None:
    assert "The same policy" in command("vla_edge.export.inspect.cli", *both)
