"""Full size, from sample to bundle, within the memory of a small machine. 20 GB of disk; minutes.

Run with: python -m pytest -m full
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from vla_edge.runtime.bundle.manifest_file import decode

PARAMETERS = {"pure": 1_703_973_122, "hybrid-a": 1_859_579_651}
GIB = 1 << 30


def peak_anonymous_bytes(command: list[str]) -> int:
    """Run a command to its end; the largest RssAnon that it was seen with."""
    process = subprocess.Popen(command)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        peak = max(peak, int(found[1]) * 1024 if found else 0)
        time.sleep(0.1)
    assert process.wait() == 0
    return peak


@pytest.mark.full
@pytest.mark.parametrize("layout", ["pure", "hybrid-a"])
def test_a_full_size_policy_is_written_and_exported_in_little_memory(tmp_path: Path, layout: str) -> None:
    checkpoint = tmp_path / "policy.pth"
    module = [sys.executable, "-m"]
    sample = [
        *module,
        "vla_edge.export.sample.cli",
        "--layout",
        layout,
        "--size",
        "full",
        "-o",
        str(checkpoint),
    ]
    assert peak_anonymous_bytes(sample) < 2 * GIB
    export = [*module, "vla_edge.export.cli", "--ckpt", str(checkpoint), "--no-build", "-o", str(tmp_path)]
    assert peak_anonymous_bytes(export) < 4 * GIB
    folder = tmp_path / "policy-fp16"
    manifest = decode((folder / "manifest.json").read_bytes())
    assert manifest.source.parameters == PARAMETERS[layout]
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    lengths = [int(e.value) for t in model.graph.initializer for e in t.external_data if e.key == "length"]
    assert (folder / "model.onnx.data").stat().st_size <= 1.01 * sum(lengths)
