"""What `vla-replay -o` writes, where the components' names make it ambiguous."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.command.result_file import result_file
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.replay.output import writers

SPEC = ActionSpec(
    names=("a", "a_b"), units=("b_c", "c"), scale=(1.0, 1.0), offset=(0.0, 0.0), limit=(1.0, 1.0)
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_components_whose_columns_would_be_one_are_refused_a_table(tmp_path: Path, suffix: str) -> None:
    with (
        pytest.raises(InputError, match="two columns would be named 'a_b_c'") as refused,
        result_file(tmp_path / f"steps{suffix}", writers(SPEC)),
    ):
        pass
    assert refused.value.hint == "Write .jsonl instead."
    assert list(tmp_path.iterdir()) == []
