"""Room for a build, asked before it begins."""

from __future__ import annotations

import pytest
from plan_builds import ADA, left_in

from vla_edge.export.build.build import build_plan
from vla_edge.export.build.memory import check_room
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import ResourceError


def test_too_little_disk_is_refused_with_figures(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("vla_edge.export.build.memory.shutil.disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match=r"Not enough disk .* GiB needed, .* GiB free"):
        build_plan(bundle, ADA)
    assert left_in(bundle) == []


@pytest.mark.parametrize(
    ("available", "ignore", "warns"),
    [(1 << 29, False, True), (1 << 29, True, False), (1 << 40, False, False), (None, False, False)],
)
def test_too_little_memory_is_a_warning_with_what_would_help(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    available: int | None,
    ignore: bool,
    warns: bool,
) -> None:
    monkeypatch.setattr("vla_edge.export.build.memory.available_memory_bytes", lambda: available)
    check_room(bundle, ignore_memory=ignore)
    assert bool(caplog.messages) == warns
    if warns:
        assert "1.0 GiB needed by a measurement on an H100, 0.5 GiB available" in caplog.text
        assert "add swap" in caplog.text
        assert "--ignore-memory" in caplog.text
