"""On a GPU: a search finds what it finds on a CPU, several episodes at once, within the memory that it told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from planted_settings import Quiet, is_truth, planted, searched

from vla_edge.export.search.search import SearchOptions, find_settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


@pytest.mark.parametrize(("layout", "seed"), [("pure", 4), ("hybrid-b", 8), ("hybrid-c", 4)])
def test_the_truth_is_among_what_fits_as_on_a_cpu(tmp_path: Path, layout: str, seed: int) -> None:
    draw = planted(tmp_path, seed, layout=layout)
    on_cpu = searched(draw, tmp_path / "cpu")
    told: list[str] = []
    reporter = Quiet()
    reporter.note = told.append  # type: ignore[method-assign]
    options = SearchOptions(draw.path, tmp_path / "cuda", validated="all", device="cuda", tf32=False)
    on_gpu = find_settings(options, draw.episodes, reporter)
    assert on_gpu is not None
    assert on_gpu.verdict.kind in ("found", "several")
    assert any(is_truth(draw, on_gpu.space[at]) for at in on_gpu.verdict.fitting)
    assert on_gpu.verdict.fits[0].mae == pytest.approx(on_cpu.verdict.fits[0].mae, abs=1e-5)
    assert on_gpu.device_mib is not None
    (memory,) = [note for note in told if "72 frames at once" in note]
    assert on_gpu.device_mib < float(memory.partition("about ")[2].split()[0]) * 1024
