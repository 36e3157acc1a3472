"""Where no DDS can be had, as on aarch64 without cyclonedds, these modules are not imported but skipped, with words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from no_dds import why_no_dds

_why = cache(why_no_dds)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if _why() is None else _Skipped.from_parent(parent, path=module_path)


class _Skipped(pytest.Module):
    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        pytest.skip(str(_why()), allow_module_level=True)
