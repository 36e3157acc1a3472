"""A machine is known by what its kernel tells."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from vla_edge.runtime.process.machine import cpu_name, is_jetson


@pytest.mark.parametrize(
    ("names", "expected"),
    [(b"nvidia,p3767-0000\0nvidia,tegra234\0", True), (b"raspberrypi,5-model-b\0brcm,bcm2712\0", False)],
)
def test_a_jetson_is_known_by_its_device_tree(tmp_path: Path, names: bytes, expected: bool) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes(names)
    assert is_jetson(tmp_path) is expected
    assert is_jetson(tmp_path / "none") is False


def test_in_a_container_that_hides_the_device_tree_a_jetson_is_known_by_its_release(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.4\n")
    assert is_jetson(tmp_path)


def test_a_processor_without_a_name_is_called_by_its_architecture(tmp_path: Path) -> None:
    other = platform.processor() or platform.machine()
    assert cpu_name(tmp_path) == other
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nBogoMIPS\t: 62.50\n")
    assert cpu_name(tmp_path) == other
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: other\n"
    )
    assert cpu_name(tmp_path) == "Some CPU @ 2 GHz"
