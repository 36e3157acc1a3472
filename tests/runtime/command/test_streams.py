"""A reader that leaves ends no work and changes no exit code, whatever the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_process import run

LEFT = ["bash", "-o", "pipefail", "-c", '"$@" | true', "bash"]
BOTH_LEFT = ["bash", "-o", "pipefail", "-c", '"$@" 2>&1 | true', "bash"]


@pytest.mark.parametrize("prefix", [LEFT, BOTH_LEFT], ids=["stdout", "both"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["vla-export", "--list-settings"], 0),
        (["vla-export", "--help"], 0),
        (["vla-run", "--version"], 0),
        (["vla-run", "BUNDLE", "IMAGE", "IMAGE", "--json"], 0),
        (["vla-run", "BUNDLE", "IMAGE", "BAD"], 1),
        (["vla-inspect", "BUNDLE"], 0),
        (["vla-inspect", "IMAGE"], 2),
        (["vla-sample", "--layout", "pure", "-o", "NEW"], 0),
        (["vla-bench", "--help"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_exit_code_is_the_command_s_own(
    arguments: list[str], code: int, prefix: list[str], bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    from PIL import Image

    Image.effect_noise((32, 32), 50).convert("RGB").save(tmp_path / "frame.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    places = {
        "BUNDLE": str(bundle_of("pure")),
        "IMAGE": str(tmp_path / "frame.png"),
        "BAD": str(tmp_path / "bad.png"),
        "NEW": str(tmp_path / "new.pth"),
    }
    done = run([places.get(part, part) for part in arguments], prefix=prefix, cwd=tmp_path)
    assert done.returncode == code
    assert "Broken pipe" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_after_a_line_costs_no_bundle(
    checkpoint_of: Callable[..., Path], tmp_path: Path
) -> None:
    prefix = ["bash", "-o", "pipefail", "-c", '"$@" | head -1', "bash"]
    arguments = ["vla-export", "--ckpt", str(checkpoint_of("pure")), "--fp16", "--fp32", "--no-build"]
    done = run([*arguments, "--name", "p", "-o", str(tmp_path)], prefix=prefix)
    assert done.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"p-fp16", "p-fp32"}
    assert done.stdout.count("\n") == 1


def test_results_of_all_images_are_in_the_file_although_nobody_reads_the_screen(
    bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    from PIL import Image

    Image.effect_noise((32, 32), 50).convert("RGB").save(tmp_path / "frame.png")
    frames = [str(tmp_path / "frame.png")] * 20
    done = run(["vla-run", str(bundle_of("pure")), *frames, "-o", str(tmp_path / "a.csv")], prefix=LEFT)
    assert done.returncode == 0
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 21
